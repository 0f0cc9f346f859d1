"""Other samplers, step counts and guidance: which findings belong to the model, and which to how it is sampled.

The statistics of :mod:`~atelier.evidence.shape` and :mod:`~atelier.evidence.order` are taken again under
every setting, and each beside the theory under the same one: the Gaussian of the data, or for a prompt the Gaussian of
the data under the prompt, sampled by the same solver in the same number of steps from the same noise. Guidance is then
the affine denoiser D_u + w (D_c - D_u) of two Gaussians, and its law of spread that of
:func:`~painters.theory.guidance.guided_gain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from atelier import statistics as intervals
from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.evidence.order import counted, emerge, order
from atelier.evidence.shape import angle, dimension, plane_residual, rotation_error
from atelier.subject import Settings, Subject
from painters.denoiser import Denoiser, Scalar
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.theory.guidance import guided_gain
from painters.theory.moments import Moments
from painters.trajectory import Trajectory

SOLVERS = ("ddim", "dpmpp2m", "heun", "ancestral")
GUIDANCE = (1.0, 3.0, 7.5)
PROMPTS = ("a moon, snow, a brick house with a grey roof and bright windows on the left", "a golden sky, a tall poplar")
PIXEL = 16
"""Side to which pictures are averaged before their components are taken: those of whole pictures would be too many."""
LAW_PCS = 12


@dataclass(frozen=True, eq=False)
class Guided:
    """Classifier-free guidance between two denoisers: D_u + guidance (D_c - D_u)."""

    unconditional: Denoiser
    conditional: Denoiser
    guidance: float

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return the guided endpoint estimate, shaped like ``x``."""
        free = self.unconditional(x, alpha, sigma)
        return free + self.guidance * (self.conditional(x, alpha, sigma) - free)


@dataclass(frozen=True)
class Setting:
    """How a subject is sampled. ``prompt`` and ``guidance`` apply to a text-to-image model."""

    solver: str
    steps: int
    guidance: float = 1.0
    prompt: str | None = None


def shape_of(trajectory: Trajectory) -> dict[str, Tensor]:
    """Return the statistics of a trajectory's shape that are compared across samplers, one number per sample each.

    ``x_1``, ``x_2``: share of the states' variance in the first and the first two components; ``x0_1``, ``x0_2`` of
    the endpoint estimates'. ``plane``: the largest share outside the plane of noise and image. ``rotation``: the mean
    error of the rotation formula. ``angle``: between noise and image, in degrees.
    """
    states, estimates = dimension(trajectory.x).cumulative, dimension(trajectory.x0).cumulative
    return {
        "x_1": states[:, 0],
        "x_2": states[:, 1],
        "x0_1": estimates[:, 0],
        "x0_2": estimates[:, 1],
        "plane": plane_residual(trajectory).amax(0),
        "rotation": rotation_error(trajectory).mean(0),
        "angle": angle(trajectory),
    }


def emergence_order(trajectory: Trajectory, gaussian: Gaussian, *, lowest: float) -> tuple[float, float, int]:
    """Return slope and rank correlation of ln sigma* with ln lam^(1/2), and how many components they come from.

    sigma* is the noise level at which half of a component's final energy stands in the endpoint estimate; components
    with lam^(1/2) above ``lowest``, and above the lowest noise level of the run, are taken. Theory: 1 and 1.
    """
    lowest = max(lowest, float(trajectory.levels.ratio[-2]))
    pcs = int((gaussian.lam.sqrt() > lowest).sum())
    if pcs < 3:
        return float("nan"), float("nan"), pcs
    seen = emerge(trajectory, gaussian, pcs=pcs)
    slope, rank = order(seen.logsnr, seen.emerged, seen.lam, torch.ones(pcs, dtype=torch.bool))
    return float(slope), float(rank), pcs


def spreads(gaussian: Gaussian, conditional: Gaussian, images: Tensor, setting: Setting, subject: Subject) -> Any:
    """Return the guided spread along the first PCs: measured, by the law, and the variances that enter the law.

    ``measured`` [K]: standard deviation of ``images`` (B, ...) along the PCs u_k of ``gaussian``. ``law`` [K]:
    :func:`guided_gain` of lam_u and lam_c = u_k . Sigma_c u_k from the subject's noisiest level, which takes the PCs
    of all data for eigenvectors of the data under the prompt.
    """
    K = min(LAW_PCS, len(gaussian.lam))
    lam_c = along(conditional, gaussian.U[:, :K])
    lam_u, first = gaussian.lam[:K], subject.levels(setting.steps)[0]
    start = float(np.hypot(*first))
    return {
        "measured": gaussian.project(images)[:, :K].std(0).tolist(),
        "law": (start * guided_gain(lam_u, lam_c, setting.guidance, frm=first)).tolist(),
        "all": lam_u.sqrt().tolist(),
        "prompted": lam_c.sqrt().tolist(),
    }


def along(gaussian: Gaussian, directions: Tensor) -> Tensor:
    """Return the variance u . Sigma u along unit vectors, the columns of ``directions`` (D, K): (K,)."""
    inside = gaussian.U.T @ directions.to(gaussian.U)
    kept = gaussian.lam @ inside.square()
    return kept + gaussian.rest * (directions.to(gaussian.U).square().sum(0) - inside.square().sum(0))


def prompted(subject: Subject, prompt: str, n: int) -> Gaussian:
    """Return the Gaussian of ``n`` new scenes drawn under a prompt, as states of the subject."""
    assert subject.model is not None
    asked = scenes.sample(n, 100_000).replace(scenes.parse(prompt))
    pictures = scenes.render(asked, subject.image_size)
    states = (subject.model.encode(to_unit(p) / 2 + 0.5).cpu() for p in pictures.split(250))
    return Gaussian.from_moments(Moments.stream(states))


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure shape and order under every sampler, step count and, for scenes-sd, guidance.

    Keys. ``runs``: a list of {"solver", "steps", "guidance", "prompt" (text or null), "nfe", "seeds", the statistics
    of :func:`shape_of` as [value, low, high] over seeds, "slope", "rank", "pcs" (see :func:`emergence_order`, in the
    model's states), "energy": mean |x_0 - mu|^2 over that of the data, and "theory": {the same numbers, values only,
    for the Gaussian under the same sampler}. With a prompt mu and the components are those of the data under it, and
    the run has "spread" {"measured", "law", "all", "prompted", "affine"} [K]: standard deviations along the PCs of all
    data, measured; by the law; the two that enter it; and of the exact affine denoiser; and "circular" [K]: the law
    with the model's own prompted pictures (guidance 1, same steps) in the place of the data, for steps where those ran.
    ``pixels``, for some runs of a latent model: a list of {"solver", "steps", "guidance", "prompt", "slope", "rank",
    "pcs", "theory_slope", "theory_rank"}, the order among components of decoded pictures. ``lowest``: the smallest
    noise level that counts; ``prompt_images``: scenes drawn for each prompt.
    """
    plan = _plan(subject, settings)
    n = settings.pick(ci=6, book=36 if subject.dim < 500 else 20, full=200)
    seeds = settings.seeds[:n]
    words = sorted({s.prompt for s in plan if s.prompt})
    drawn = settings.pick(ci=100, book=1000, full=10_000)
    gaussians = {w: prompted(subject, w, drawn) for w in words}
    lowest = _lowest(subject)
    pictures = _picture_gaussian(subject, settings) if words else None
    found: dict[str, Any] = {"runs": [], "lowest": lowest, "prompt_images": drawn if words else 0}
    own: dict[tuple[str, int], Gaussian] = {}
    for setting in tqdm(plan, desc="samplers", leave=False, disable=not settings.progress):
        conditional = gaussians.get(setting.prompt or "")
        run = _run(subject, subject.denoise, setting, seeds)
        theory = _run(subject, _theory(subject, conditional, setting), setting, seeds)
        target = conditional or subject.gaussian
        row = {"solver": setting.solver, "steps": setting.steps, "guidance": setting.guidance, "prompt": setting.prompt}
        found["runs"].append(row | _statistics(run, theory, target, lowest))
        if conditional is not None and setting.prompt is not None:
            key = (setting.prompt, setting.steps)
            if setting.guidance == 1:
                own[key] = _own(run.final)
            spread = spreads(subject.gaussian, conditional, run.final, setting, subject)
            spread["affine"] = spreads(subject.gaussian, conditional, theory.final, setting, subject)["measured"]
            if key in own:
                spread["circular"] = spreads(subject.gaussian, own[key], run.final, setting, subject)["law"]
            found["runs"][-1]["spread"] = spread
        if pictures is not None and _decoded(setting, plan):
            found.setdefault("pixels", []).append(row | _in_pixels(subject, run, theory, pictures))
    return found


def _plan(subject: Subject, settings: Settings) -> list[Setting]:
    steps = settings.pick(ci=(8,), book=(50, 20), full=(50, 20))
    solvers = settings.pick(ci=("ddim", "dpmpp2m"), book=SOLVERS, full=SOLVERS)
    plan = [Setting(solver, n) for n in steps for solver in solvers]
    model = subject.model
    if subject.kind != "network" or model is None or model.text is None or model.card["training"]["data"] != "scenes":
        return plan
    for i, prompt in enumerate(settings.pick(ci=PROMPTS[:1], book=PROMPTS, full=PROMPTS)):
        for n in steps if i == 0 else steps[-1:]:
            plan += [Setting("dpmpp2m", n, w, prompt) for w in GUIDANCE]
    return plan


def _decoded(setting: Setting, plan: Sequence[Setting]) -> bool:
    """Whether a run is also looked at in decoded pixels, which costs a decoding a frame."""
    chosen = setting.solver in ("dpmpp2m", "ancestral") and setting.prompt in (None, PROMPTS[0])
    return chosen and setting.steps == min(s.steps for s in plan) and setting.guidance in (GUIDANCE[0], GUIDANCE[-1])


def _lowest(subject: Subject) -> float:
    """The smallest noise level from which on up all levels count, sigma/alpha, and never below 0.1."""
    levels = subject.levels(100)[:-1]
    ratio, use = levels.ratio, counted(subject, levels)
    failing = ratio[~use & (ratio < 1)]
    return max(0.1, float(failing.max()) if len(failing) else 0.0)


def _run(subject: Subject, denoise: Denoiser, setting: Setting, seeds: Sequence[int]) -> Trajectory:
    if setting.prompt is not None and denoise is subject.denoise:
        assert subject.model is not None
        denoise = subject.model.denoiser(setting.prompt, guidance=setting.guidance)
    levels = subject.levels(setting.steps)
    runs = []
    for batch in subject.batches(seeds):
        x = levels.start(noise(batch, subject.shape))
        runs.append(solve(denoise, x, levels, solver=setting.solver, seeds=batch, progress=False))
    return Trajectory.join(runs)


def _theory(subject: Subject, conditional: Gaussian | None, setting: Setting) -> Denoiser:
    if conditional is None:
        return subject.gaussian
    return conditional if setting.guidance == 1 else Guided(subject.gaussian, conditional, setting.guidance)


def _statistics(run: Trajectory, theory: Trajectory, target: Gaussian, lowest: float) -> dict[str, Any]:
    """One run's numbers with intervals over seeds, and the theory's."""
    measured, exact = shape_of(run), shape_of(theory)
    row: dict[str, Any] = {"nfe": run.nfe, "seeds": run.x.shape[1]}
    for key, one in zip(measured, intervals.bootstrap(torch.stack([*measured.values()], 1))):
        row[key] = [one.value, one.low, one.high]
    predicted: dict[str, Any] = {key: float(values.mean()) for key, values in exact.items()}
    for into, trajectory in ((row, run), (predicted, theory)):
        into["slope"], into["rank"], into["pcs"] = emergence_order(trajectory, target, lowest=lowest)
        moved = (trajectory.final.flatten(1).to(target.mu) - target.mu).square().sum(1).mean()
        into["energy"] = float(moved / target.spectrum.sum())
    return row | {"theory": predicted}


def _own(images: Tensor) -> Gaussian:
    """The Gaussian of a model's own samples: theory made of it is circular, and is labelled so."""
    return Gaussian.from_moments(Moments.of(images))


def _small(subject: Subject, x: Tensor) -> Tensor:
    pictures = subject.decode(x) * 2 - 1
    return F.avg_pool2d(pictures, pictures.shape[2] // PIXEL)


def _picture_gaussian(subject: Subject, settings: Settings) -> Gaussian:
    """The Gaussian of the training pictures, averaged down."""
    pictures = subject.pictures(settings.pick(ci=400, book=4000, full=20_000), test=False)
    assert pictures is not None
    factor = pictures.shape[2] // PIXEL
    return Gaussian.from_moments(Moments.stream(F.avg_pool2d(to_unit(p), factor) for p in pictures.split(1000)))


def _in_pixels(subject: Subject, run: Trajectory, theory: Trajectory, pictures: Gaussian) -> dict[str, Any]:
    """The order of emergence among components of decoded pictures."""
    found: dict[str, Any] = {}
    for prefix, trajectory in (("", run), ("theory_", theory)):
        few = min(10, trajectory.x.shape[1])
        x0 = torch.stack([_small(subject, frame[:few]) for frame in trajectory.x0])
        final = _small(subject, trajectory.final[:few])
        seen = replace(trajectory, x=torch.stack([final] * len(trajectory.x)), x0=x0, seeds=None)
        slope, rank, pcs = emergence_order(seen, pictures, lowest=0.5)
        found |= {f"{prefix}slope": slope, f"{prefix}rank": rank, "pcs": pcs}
    return found
