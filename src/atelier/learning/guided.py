"""Guidance in a trained text-to-image model beside the law of two Gaussians: the spread of its pictures along PCs.

The two Gaussians are those of all data and of the data under the prompt: scenes are drawn by the package, so both are
known without the model. Their law is that of :func:`~atelier.learning.guidance.guided_gain`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.learning.guidance import guided_gain
from atelier.subject import Settings, Subject
from painters.denoiser import Denoiser, guided
from painters.sampling import noise, paint_on
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments

GUIDANCE = (1.0, 3.0, 7.5)
PROMPTS = ("a moon, snow, a brick house with a grey roof and bright windows on the left", "a golden sky, a tall poplar")
PCS = 12
"""So many of the first principal components (PCs) of all data, along which spreads are compared."""
SCENES = 100_000
"""The first seed of the scenes that are drawn under a prompt: no model was trained or tested on them."""


def prompted(subject: Subject, prompt: str, n: int) -> Gaussian:
    """Return the Gaussian of ``n`` new scenes drawn under a prompt, as states of the subject."""
    assert subject.model is not None
    asked = scenes.sample(n, SCENES).replace(scenes.parse(prompt))
    pictures = scenes.render(asked, subject.image_size)
    states = (subject.model.encode(to_unit(p) / 2 + 0.5).cpu() for p in pictures.split(250))
    return Gaussian.from_moments(Moments.stream(states))


def law(subject: Subject, conditional: Gaussian, guidance: float, *, steps: int) -> Tensor:
    """Return the standard deviations (K,) of guided pictures along the first PCs u_k of all data, by the law.

    :func:`guided_gain` of lam_u and lam_c = u_k . Sigma_c u_k from the noisiest level of a run: it takes the PCs of all
    data for eigenvectors of the ``conditional`` data.
    """
    g, first = subject.gaussian, subject.levels(steps)[0]
    lam_c = conditional.along(g.U[:, :PCS].T)
    return math.hypot(*first) * guided_gain(g.lam[:PCS], lam_c, guidance, frm=first)


def spread(subject: Subject, denoise: Denoiser, seeds: tuple[int, ...], *, steps: int, batch: int = 64) -> Tensor:
    """Return the standard deviations (K,), over seeds, of pictures along the first PCs of all data."""
    levels = subject.levels(steps)
    parts = [levels.start(noise(some, subject.shape)) for some in subject.batches(seeds, batch)]
    painted = torch.cat([paint_on(denoise, x, levels, solver="dpmpp2m").cpu() for x in parts])
    return subject.gaussian.project(painted)[:, :PCS].std(0)


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure the spread of a text-to-image model of scenes under two prompts and three guidance weights, or ``None``.

    Returns ``runs``, a list of {"prompt", "guidance", "steps", "seeds" (how many pictures), and standard deviations
    along the first PCs of all data [K]: "measured"; "law"; and of two exact affine denoisers, sampled as the network
    is: "affine", of the two Gaussians, and "aligned", of two with common axes, in which the data under the prompt have
    their variances along the PCs of all data and no correlations}.
    """
    model = subject.model
    if subject.kind not in ("network", "shuffled") or model is None or model.text is None:
        return None
    if model.card["training"]["data"] != "scenes":
        return None
    seeds = settings.seeds[: settings.pick(ci=6, book=128, full=1000)]
    steps, drawn = settings.pick(ci=8, book=20, full=50), settings.pick(ci=100, book=1000, full=10_000)
    runs: list[dict[str, Any]] = []
    for prompt in tqdm(PROMPTS, desc="guidance", leave=False, disable=not settings.progress):
        g, conditional = subject.gaussian, prompted(subject, prompt, drawn)
        aligned = Gaussian(conditional.mu, g.U, conditional.along(g.U.T))
        for w in GUIDANCE:
            painters = {
                "measured": model.denoiser(prompt, guidance=w),
                "affine": guided(conditional, g, w),
                "aligned": guided(aligned, g, w),
            }
            found = {name: spread(subject, one, seeds, steps=steps) for name, one in painters.items()}
            found["law"] = law(subject, conditional, w, steps=steps)
            row = {"prompt": prompt, "guidance": w, "steps": steps, "seeds": len(seeds)}
            runs.append(row | {name: values.tolist() for name, values in found.items()})
    return {"runs": runs}
