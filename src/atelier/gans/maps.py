"""Maps from unit noise to images: a sampler's, with its Jacobian where the data vary, a GAN's, and nulls of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from atelier.gans.pullback import linear_generator, shuffled
from atelier.manifold import SamplerMap
from atelier.networks.generator import Generator, GeneratorNetwork, load_generator
from atelier.networks.readers import LOGSNR
from atelier.subject import Subject
from painters.denoiser import Denoiser
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.trajectory import Frames, Trajectory

GAN = "scenes-gan"
PROBES = 2
"""Random directions outside the basis by which the trace of the metric there is estimated, at each point."""
FEATURES = 400
"""Test pictures from which the scales of a reader's features are taken."""
PROBE = 2**28
"""Added to a seed for what is drawn at random at its point."""

Features = Callable[[Tensor], Tensor]
"""Images (B, ...) -> features (B, d), differentiable."""


@dataclass(frozen=True, eq=False)
class Mapping:
    """A sampler as a map from unit noise to images: ``denoise``, which keeps its graph, through ``levels``."""

    denoise: Denoiser = field(repr=False)
    levels: Levels

    @classmethod
    def of(cls, subject: Subject, steps: int) -> Mapping:
        """Return a subject's map: DPM-Solver++(2M), levels even in log-SNR where the schedule has both ends."""
        denoise = subject.denoise
        if subject.model is not None and subject.kind == "network":
            denoise = subject.model.denoiser(subject.moments.get("prompt"), grad=True)
        try:
            return cls(denoise, subject.levels(steps, spacing="logsnr"))
        except ValueError:
            return cls(denoise, subject.levels(steps))

    @property
    def scale(self) -> float:
        """The state at ``levels[0]`` over unit noise."""
        return float(self.levels.start(torch.ones(1, dtype=torch.float64)))

    def run(self, z: Tensor, save: Frames = Frames()) -> Trajectory:  # noqa: B008 (frozen)
        """Return the run from unit noise ``z`` (B, ...)."""
        with torch.no_grad():
            return solve(self.denoise, self.scale * z, self.levels, solver="dpmpp2m", save=save, progress=False)

    def stages(self, seeds: Sequence[int], shape: Sequence[int], *, batch: int) -> list[Tensor]:
        """Return the endpoint estimates (n, ...) at each level of runs from the seeds' noise, and last the images."""
        runs = [self.run(part) for part in noise(seeds, shape).split(batch)]
        return [*torch.cat([run.x0 for run in runs], 1), torch.cat([run.final for run in runs])]

    def __call__(self, z: Tensor) -> Tensor:
        """Return the images (B, ...) of unit noise ``z`` (B, ...), 50 at a time."""
        return torch.cat([self.run(part, Frames(None)).final for part in z.split(50)])

    def push(self, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image (...) of unit noise ``z`` (...), and J v (d, ...) for directions (d, ...) of that noise."""
        run = SamplerMap(self.denoise, self.scale * z, self.levels)
        return run.image, sampler_columns(run, self.scale * directions)


def sampler_columns(run: SamplerMap, basis: Tensor, *, chunk: int = 64) -> Tensor:
    """Return J v (d, ...) for many directions ``basis`` (d, ...) of one run's start, as ``run.push`` does, but faster.

    All directions share the run's states, so one graph a step serves them all: J v is the derivative of u -> J^T u,
    taken for ``chunk`` directions at a time. Memory as for ``chunk`` states.
    """
    v, last = basis, torch.zeros_like(basis)
    for (c, d, e), x, level in zip(run.weights, run.x, run.levels):
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            x = x.detach()[None].requires_grad_()
            y = run.denoise(x, *level)
            u = torch.zeros_like(y).requires_grad_()
            (pulled,) = torch.autograd.grad(y, x, u, create_graph=True, materialize_grads=True)
            moved = torch.zeros_like(v)
            if pulled.requires_grad:
                parts = v.to(pulled)[:, None].split(chunk)
                found = [torch.autograd.grad(pulled, u, p, retain_graph=True, is_grads_batched=True)[0] for p in parts]
                moved = torch.cat(found)[:, 0].to(v)
        v, last = c * v + d * (moved + e * (moved - last)), moved
    return v.detach()


def pushed(
    mapping: Mapping, seeds: Sequence[int], basis: Tensor, features: Features | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the map's Jacobians at one point for each seed, restricted to the span of ``basis`` (d, ...), orthonormal.

    (n, D, d) of the images, (n, f, d) of their ``features``, and (n,) the trace of J^T J over all other directions,
    estimated from :data:`PROBES` random ones.
    """
    flat = basis.flatten(1)
    J, seen, outside = [], [], []
    for seed, z in zip(seeds, noise(seeds, basis.shape[1:])):
        probes = noise([PROBE + PROBES * seed + i for i in range(PROBES)], basis.shape[1:])
        probes = probes - ((probes.flatten(1) @ flat.T) @ flat).reshape(probes.shape)
        image, moved = mapping.push(z, torch.cat([basis, probes]))
        columns, rest = moved.split([len(basis), PROBES])
        J.append(columns.flatten(1).double().cpu().T)
        outside.append(rest.flatten(1).double().cpu().square().sum(1).mean())
        if features is not None:
            seen.append(_through(features, image, columns).double().cpu().T)
    return torch.stack(J), torch.stack(seen) if seen else None, torch.stack(outside)


def generator_of(subject: Subject) -> Generator | None:
    """Return the bundled GAN if it paints the pictures that the subject's states are, else ``None``."""
    facts = {} if subject.model is None else subject.model.card.get("training", {})
    if subject.model is None or facts.get("data") != "scenes" or facts.get("variant") is not None:
        return None
    try:
        found = load_generator(GAN, device=str(subject.model.device))
    except FileNotFoundError:
        return None
    return found if found.shape == subject.shape else None


def nulls(subject: Subject, trained: Generator) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return three generators of as many latents that no critic has taught: untrained, shuffled, and linear."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = GeneratorNetwork(latent=trained.latent, channels=trained.network.channels, colours=trained.shape[0])
    g, pcs = subject.gaussian, min(trained.latent, len(subject.gaussian.lam))
    mixed = shuffled(deepcopy(trained.network))
    made = {
        name: Generator(_frozen(net, trained.device), trained.shape, trained.device)
        for name, net in (("untrained", fresh), ("shuffled", mixed))
    }
    return {**made, "linear": linear_generator(g.U[:, :pcs], g.lam[:pcs], g.mu, trained.shape)}


def feature_map(subject: Subject) -> Features | None:
    """Return images (B, ...) -> features (B, d) of the subject's reader, differentiable, in units of the data's spread.

    ``None`` if the reader does not read the model's own states, or no data are at hand.
    """
    reader = subject.reader
    data = None if reader is None or reader.shape != subject.shape else subject.data(FEATURES)
    if reader is None or data is None:
        return None
    spread = reader.features(data).std(0)
    size = spread.clamp(min=1e-3 * float(spread.max())).to(reader.device)
    network = deepcopy(reader.network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return lambda x: network.features(x, torch.full((len(x),), LOGSNR, device=x.device)) / size


def latents(seeds: Sequence[int], d: int) -> Tensor:
    """Return one latent (d,) for each seed, unit normal, (n, d)."""
    return noise(seeds, (d,))


def _through(features: Features, image: Tensor, columns: Tensor) -> Tensor:
    """Columns (d, ...) of a Jacobian, pushed on through the features at an image, (d, f)."""

    def one(x: Tensor) -> Tensor:
        return features(x[None])[0]

    return torch.func.vmap(lambda v: torch.func.jvp(one, (image,), (v,))[1])(columns.to(image))


def _frozen(network: GeneratorNetwork, device: torch.device) -> GeneratorNetwork:
    return network.to(device).eval().requires_grad_(False)
