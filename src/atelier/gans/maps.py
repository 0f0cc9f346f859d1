"""Maps from unit noise to images: a sampler's, with its Jacobian where the data vary, a GAN's, and nulls of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.gans.pullback import linear_generator
from atelier.landscape.jacobian import with_graph
from atelier.manifold import SamplerMap
from atelier.networks import bundled, shuffled
from atelier.networks.generator import Generator, GeneratorNetwork, load_generator
from atelier.subject import Subject
from painters.denoiser import Denoiser
from painters.levels import Levels
from painters.sampling import noise
from painters.sampling.noise import FRESH

GANS = {"fashion": "fashion-gan"}
"""Which generator paints the pictures of a data set, where it is bundled."""
PROBES = 2
"""Random directions outside the basis by which the trace of the metric there is estimated, at each point."""


@dataclass(frozen=True, eq=False)
class Mapping:
    """A sampler as a map from unit noise to images: ``denoise``, which keeps its graph, through ``levels``."""

    denoise: Denoiser = field(repr=False)
    levels: Levels

    @classmethod
    def of(cls, subject: Subject, steps: int) -> Mapping:
        """Return a subject's map: DPM-Solver++(2M), levels even in log-SNR where the schedule has both ends."""
        return cls(with_graph(subject.denoise), subject.levels(steps, spacing="even"))

    @property
    def scale(self) -> float:
        """The state at ``levels[0]`` over unit noise."""
        return float(self.levels.start(torch.ones(1, dtype=torch.float64)))

    def columns(self, z: Tensor, directions: Tensor) -> Tensor:
        """Return J v (d, ...) for directions (d, ...) of the unit noise ``z`` (...)."""
        return SamplerMap(self.denoise, self.scale * z, self.levels).columns(self.scale * directions)


def pushed(mapping: Mapping, seeds: Sequence[int], basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the map's Jacobians at one point for each seed, restricted to the span of ``basis`` (d, ...), orthonormal.

    (n, D, d), and (n,) the trace of J^T J over all other directions, estimated from :data:`PROBES` random ones.
    """
    flat = basis.flatten(1)
    J, outside = [], []
    for seed, z in zip(seeds, noise(seeds, basis.shape[1:])):
        probes = noise([PROBES * seed + i for i in range(PROBES)], basis.shape[1:], stream=FRESH)
        probes = probes - ((probes.flatten(1) @ flat.T) @ flat).reshape(probes.shape)
        columns, rest = mapping.columns(z, torch.cat([basis, probes])).split([len(basis), PROBES])
        J.append(columns.flatten(1).double().cpu().T)
        outside.append(rest.flatten(1).double().cpu().square().sum(1).mean())
    return torch.stack(J), torch.stack(outside)


def generator_of(subject: Subject) -> Generator | None:
    """Return the bundled GAN that paints the pictures which the subject's states are, ``None`` if there is none."""
    facts = {} if subject.model is None else subject.model.card.get("training", {})
    name = GANS.get(str(facts.get("data")))
    if subject.model is None or facts.get("variant") is not None or name not in bundled("generator"):
        return None
    found = load_generator(name, device=str(subject.model.device))
    return found if found.shape == subject.shape else None


def nulls(subject: Subject, trained: Generator) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return three generators of as many latents that no critic has taught: untrained, shuffled, and linear."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = GeneratorNetwork(
            latent=trained.latent,
            channels=trained.network.channels,
            colours=trained.shape[0],
            side=trained.network.constant.shape[-1],
        )
    g, pcs = subject.gaussian, min(trained.latent, len(subject.gaussian.lam))
    made = {
        name: Generator(network.to(trained.device).eval().requires_grad_(False), trained.shape, trained.device)
        for name, network in (("untrained", fresh), ("shuffled", shuffled(trained.network)))
    }
    return {**made, "linear": linear_generator(g.U[:, :pcs], g.lam[:pcs], g.mu, trained.shape)}


def latents(seeds: Sequence[int], d: int) -> Tensor:
    """Return one latent (d,) for each seed, unit normal, (n, d)."""
    return noise(seeds, (d,))
