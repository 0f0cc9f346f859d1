"""Other samplers, step counts and guidance: which findings belong to the model, and which to how it is sampled.

The order of emergence and the energy of the images are taken under every setting, and each beside the theory under the
same one: the Gaussian of the data, or for a prompt the Gaussian of the data under the prompt, sampled by the same
solver in the same number of steps from the same noise. Guidance is then the affine denoiser D_u + w (D_c - D_u) of two
Gaussians, and its law of spread that of :func:`~atelier.limits.guidance.guided_gain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.evidence.order import counted, emerge, order
from atelier.limits.guidance import guided_gain
from atelier.subject import Settings, Subject
from painters.denoiser import Denoiser, guided
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments
from painters.trajectory import Trajectory

SOLVERS = ("ddim", "dpmpp2m", "heun", "ancestral")
GUIDANCE = (1.0, 3.0, 7.5)
PROMPTS = ("a moon, snow, a brick house with a grey roof and bright windows on the left", "a golden sky, a tall poplar")
LAW_PCS = 12
"""Components along which guided spreads are compared: beyond them, the spread of 20 pictures is mostly chance."""
LOWEST = 0.1
"""Components that emerge below this noise level are left out: a run of 20 steps has one level or none there."""


@dataclass(frozen=True)
class Setting:
    """How a subject is sampled. ``prompt`` and ``guidance`` apply to a text-to-image model."""

    solver: str
    steps: int
    guidance: float = 1.0
    prompt: str | None = None


def emergence_order(trajectory: Trajectory, gaussian: Gaussian, *, lowest: float) -> tuple[float, float]:
    """Return slope and rank correlation of ln sigma* with ln lam^(1/2), NaN for fewer than three components.

    sigma* is the noise level at which half of a component's final energy stands in the endpoint estimate; components
    with lam^(1/2) above ``lowest``, and above the lowest noise level of the run, are taken. Theory: 1 and 1.
    """
    lowest = max(lowest, float(trajectory.levels.ratio[-2]))
    pcs = int((gaussian.lam.sqrt() > lowest).sum())
    if pcs < 3:
        return math.nan, math.nan
    seen = emerge(trajectory, gaussian, pcs=pcs)
    slope, rank = order(seen.logsnr, seen.emerged, seen.lam, torch.ones(pcs, dtype=torch.bool))
    return float(slope), float(rank)


def spreads(gaussian: Gaussian, conditional: Gaussian, images: Tensor, setting: Setting, subject: Subject) -> Any:
    """Return the guided spread along the first PCs: measured, by the law, and the variances that enter the law.

    ``measured`` [K]: standard deviation of ``images`` (B, ...) along the PCs u_k of ``gaussian``. ``law`` [K]:
    :func:`guided_gain` of lam_u and lam_c = u_k . Sigma_c u_k from the subject's noisiest level, which takes the PCs
    of all data for eigenvectors of the data under the prompt.
    """
    K = min(LAW_PCS, len(gaussian.lam))
    lam_c = conditional.along(gaussian.U[:, :K].T)
    lam_u, first = gaussian.lam[:K], subject.levels(setting.steps)[0]
    start = math.hypot(*first)
    return {
        "measured": gaussian.project(images)[:, :K].std(0).tolist(),
        "law": (start * guided_gain(lam_u, lam_c, setting.guidance, frm=first)).tolist(),
        "all": lam_u.sqrt().tolist(),
        "prompted": lam_c.sqrt().tolist(),
    }


def prompted(subject: Subject, prompt: str, n: int) -> Gaussian:
    """Return the Gaussian of ``n`` new scenes drawn under a prompt, as states of the subject."""
    assert subject.model is not None
    asked = scenes.sample(n, 100_000).replace(scenes.parse(prompt))
    pictures = scenes.render(asked, subject.image_size)
    states = (subject.model.encode(to_unit(p) / 2 + 0.5).cpu() for p in pictures.split(250))
    return Gaussian.from_moments(Moments.stream(states))


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure order and energy under every sampler, step count and, for scenes-sd, guidance.

    Returns ``runs``, a list of {"solver", "steps", "guidance", "prompt" (text or null), "seeds", "slope" and "rank"
    (see :func:`emergence_order`), "energy": mean |x_0 - mu|^2 over that of the data, and "theory": the same three for
    the Gaussian under the same sampler}. With a prompt mu and the components are those of the data under it, and the
    run has "spread" {"measured", "law", "all", "prompted", "affine"} [K]: standard deviations along the PCs of all
    data, measured; by the law; the two that enter it; and of the exact affine denoiser; and "circular" [K]: the law
    with the model's own prompted pictures (guidance 1, same steps) in the place of the data.
    """
    seeds = settings.seeds[: settings.pick(ci=6, book=36 if subject.dim < 500 else 20, full=200)]
    plan, lowest = _plan(subject, settings), _lowest(subject)
    drawn = settings.pick(ci=100, book=1000, full=10_000)
    gaussians = {words: prompted(subject, words, drawn) for words in sorted({s.prompt for s in plan if s.prompt})}
    runs: list[dict[str, Any]] = []
    own: dict[tuple[str | None, int], Gaussian] = {}
    for setting in tqdm(plan, desc="samplers", leave=False, disable=not settings.progress):
        conditional = gaussians.get(setting.prompt or "")
        target, exact = subject.gaussian, subject.gaussian
        if conditional is not None:
            target, exact = conditional, guided(conditional, subject.gaussian, setting.guidance)
        run, theory = (_run(subject, denoise, setting, seeds) for denoise in (_painter(subject, setting), exact))
        row = asdict(setting) | {"seeds": len(seeds)} | _statistics(run, target, lowest)
        runs.append(row | {"theory": _statistics(theory, target, lowest)})
        if conditional is not None:
            key = (setting.prompt, setting.steps)
            if setting.guidance == 1:
                own[key] = Gaussian.from_moments(Moments.of(run.final))
            spread = spreads(subject.gaussian, conditional, run.final, setting, subject)
            spread["affine"] = spreads(subject.gaussian, conditional, theory.final, setting, subject)["measured"]
            spread["circular"] = spreads(subject.gaussian, own[key], run.final, setting, subject)["law"]
            runs[-1]["spread"] = spread
    return {"runs": runs}


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


def _lowest(subject: Subject) -> float:
    """The smallest noise level from which on up all levels count, sigma/alpha, and never below ``LOWEST``."""
    levels = subject.levels(100)[:-1]
    ratio, use = levels.ratio, counted(subject, levels)
    failing = ratio[~use & (ratio < 1)]
    return max(LOWEST, float(failing.max()) if len(failing) else 0.0)


def _painter(subject: Subject, setting: Setting) -> Denoiser:
    if setting.prompt is None:
        return subject.denoise
    assert subject.model is not None
    return subject.model.denoiser(setting.prompt, guidance=setting.guidance)


def _run(subject: Subject, denoise: Denoiser, setting: Setting, seeds: Sequence[int]) -> Trajectory:
    levels, runs = subject.levels(setting.steps), []
    for batch in subject.batches(seeds):
        x = levels.start(noise(batch, subject.shape))
        runs.append(solve(denoise, x, levels, solver=setting.solver, seeds=batch, progress=False))
    return Trajectory.join(runs)


def _statistics(run: Trajectory, target: Gaussian, lowest: float) -> dict[str, float]:
    slope, rank = emergence_order(run, target, lowest=lowest)
    moved = (run.final.flatten(1).to(target.mu) - target.mu).square().sum(1).mean()
    return {"slope": slope, "rank": rank, "energy": float(moved / target.spectrum.sum())}
