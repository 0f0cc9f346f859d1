"""Rows of the ledger in worlds that are known: the verdict is right where a claim is true, and where it is not.

Where a measurement is cheap the whole chain runs, from a denoiser to the verdict; else a record is made by hand. The
marker ``claim`` is held to what a test judges, see conftest.py: each row in a world of either kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from partners import judge, randn
from torch import Tensor

from atelier import trained
from atelier.data.scenes.factors import Factor
from atelier.evidence import often, order, shape
from atelier.landscape import jacobian, retrieval
from atelier.learning import carries
from atelier.learning.analytic import analytic
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, Mixture, Moments, PointCloud
from painters.schedules import vp_linear

F64 = torch.float64


def axes(dim: int, seed: int = 3) -> Tensor:
    """Orthonormal axes, turned at random."""
    return torch.linalg.qr(randn(dim, dim, seed=seed)).Q


def gaussian(lam: Any, *, dim: int | None = None, mean: float = 0.0) -> Gaussian:
    lam = torch.as_tensor(lam, dtype=F64)
    dim = dim or len(lam)
    return Gaussian(mean * randn(dim, seed=4), axes(dim)[:, : len(lam)].contiguous(), lam)


def levels(n: int, *, spacing: Any = "trailing") -> Levels:
    return Levels.of(vp_linear(), n, spacing=spacing)


def subject(denoise: Any, theory: Gaussian, size: tuple[int, ...] | None = None, **options: Any) -> Subject:
    """A subject whose network is ``denoise`` and whose data have the moments of ``theory``."""
    size = size or (1, 1, theory.dim)
    return Subject("tiny", denoise, theory, size, levels, lambda x: x / 2 + 0.5, **options)


# Training


CARD = {
    "loss": {
        "alpha": [0.1, 0.7, 1.0], "sigma": [1.0, 0.7, 0.1], "n": 100, "loss_se": [0.01] * 3,
        "gaussian_loss": [9.0, 4.0, 1.0], "mean_loss": [10.0, 20.0, 100.0],
    },
}  # fmt: skip


def training(loss: list[float], apart: list[float]) -> dict:
    """The record of a card with these test losses, and these distances from the Gaussian at steps 100, 200 and 400."""
    snapshots = [{"step": step, "gaussian_apart": [one]} for step, one in zip((100, 200, 400), apart)]
    card = {"loss": CARD["loss"] | {"loss": loss}, "snapshots": snapshots}
    record = trained.measure(subject(None, gaussian([4.0, 1.0]), model=SimpleNamespace(card=card)), Settings())
    assert record is not None
    return record


@pytest.mark.claim("t-loss", "t-levels", "t-rest")
def test_training() -> None:
    good, gauss = training([8.9, 3.0, 0.5], [2.0, 2.0, 2.05]), training(CARD["loss"]["gaussian_loss"], [2.0, 3.0, 4.0])
    mean = training(CARD["loss"]["mean_loss"], [1.0, 1.0, 1.0])
    assert [judge(row, trained=good) for row in ("t-loss", "t-levels", "t-rest")] == ["holds"] * 3
    assert judge("t-loss", trained=gauss) == "fails"
    assert judge("t-levels", trained=gauss) == "holds" and judge("t-levels", trained=mean) == "fails"
    assert judge("t-rest", trained=gauss) == "fails" and judge("t-rest", trained=mean) == "holds"


# (i) Shape


def shaped(denoise: Any, theory: Gaussian) -> dict:
    return shape.measure(subject(denoise, theory), Settings(seeds=tuple(range(8)), steps=24, profile="book"))


def wandering(x: Tensor, alpha: Any, sigma: Any) -> Tensor:
    """An estimate that visits one axis after the other."""
    ratio = torch.as_tensor(alpha / sigma if sigma > 0 else 1e3).log()
    at = 2 * torch.arange(x.shape[-1]) - 5.0
    return 3 * torch.exp(-((ratio - at) ** 2)).expand_as(x).to(x)


@pytest.mark.claim("i-x0hat-two-pcs", "i-knowing-nothing-is-flatter", "i-ode-not-sde", "i-plane", "i-angle")
def test_shape() -> None:
    g = gaussian([30.0, 3.0, 3.0, 0.5, 0.5, 0.5] + [0.02] * 6, mean=1.0)
    exact, mean = shaped(g, g), shaped(subject(g, g).mean_only().denoise, g)
    large = gaussian([1e6] * 2 + [1e-4] * 10)
    assert judge("i-x0hat-two-pcs", geometry=exact) == "holds"
    assert judge("i-x0hat-two-pcs", geometry=shaped(wandering, g)) == "fails"
    assert judge("i-knowing-nothing-is-flatter", geometry=exact) == "holds"
    assert judge("i-knowing-nothing-is-flatter", geometry=mean) == "undecided"
    assert judge("i-ode-not-sde", geometry=exact) == "holds"
    assert judge("i-ode-not-sde", geometry=shaped(large, large)) == "fails"  # noise is nothing beside such data
    for row in ("i-plane", "i-angle"):
        assert judge(row, geometry=exact) == "holds within limits" and judge(row, geometry=mean) == "fails"  # 8 seeds


# (ii) Order


@pytest.mark.claim("ii-order", "ii-slope", "ii-bound", "ii-bands-by-variance")
def test_order() -> None:
    """Waves of 8 x 8 pixels whose variance falls with their frequency; a network that has it rise is wrong in all."""
    k = torch.arange(8, dtype=F64)
    wave = torch.cos(math.pi / 8 * (k[:, None] + 0.5) * k) * torch.where(k == 0, 1 / 8, 2 / 8).sqrt()
    both = torch.einsum("ai,bj->abij", wave, wave).reshape(64, 64)
    frequency = (k[:, None] ** 2 + k**2).flatten()
    lam, turn = 30 / (1 + frequency) ** 1.3, frequency.argsort()
    g = Gaussian(torch.zeros(64, dtype=F64), both[:, turn].contiguous(), lam[turn])
    settings = Settings(seeds=tuple(range(100)), steps=50, profile="book", batch=100)
    right, wrong = (
        order.measure(subject(d, g, (1, 8, 8)), settings) for d in (g, Gaussian(g.mu, g.U, lam[turn].flip(0)))
    )
    for row in ("ii-order", "ii-slope", "ii-bound", "ii-bands-by-variance"):
        assert (judge(row, emergence=right), judge(row, emergence=wrong)) == ("holds", "fails"), row


@pytest.mark.claim("ii-factors")
def test_factors_are_decided_in_order() -> None:
    def known(rho: float, reach: float) -> dict:
        return {"rank_sde": {"rho": rho, "low": rho - reach, "high": min(rho + reach, 1), "n": 12}}

    assert judge("ii-factors", commitment=known(0.7, 0.3)) == "holds"
    assert judge("ii-factors", commitment=known(0.5, 0.5)) == "holds within limits"
    assert judge("ii-factors", commitment=known(0.1, 0.5)) == "fails"


# (iii) Kicks


class Side:
    """A reader that sees on which side of a plane a state lies."""

    shape, factors = (1, 4, 4), (Factor("side", "masses", ("left", "right")),)

    def __init__(self, axis: Tensor) -> None:
        self.axis = axis

    def look(self, pictures: Tensor) -> Tensor:
        return pictures

    def values(self, x: Tensor) -> dict[str, Tensor]:
        return {"side": (x.flatten(1).double() @ self.axis > 0).long()}


def kicked(denoise: Any, theory: Gaussian, seeds: int, **reader: Any) -> dict:
    settings = Settings(seeds=tuple(range(seeds)), profile="book", progress=False)
    return often.measure(subject(denoise, theory, (1, 4, 4), **reader), settings)


@pytest.mark.claim("iii-often", "iii-often-std", "iii-often-sde")
def test_changes_by_kicks() -> None:
    """Data as narrow as the noise at the end keep no kick from changing sides; a network that paints far wider does."""
    narrow = gaussian([0.3] + [0.1] * 15)
    wide = replace(narrow, lam=torch.cat([torch.tensor([1e4], dtype=F64), narrow.lam[1:]]))
    exact, far = (kicked(d, narrow, 128, reader=Side(narrow.U[:, 0])) for d in (narrow, wide))
    assert judge("iii-often", perturbation=far) == "holds" and judge("iii-often", perturbation=exact) == "undecided"
    assert judge("iii-often-sde", perturbation=far) == "holds"
    assert judge("iii-often-sde", perturbation=exact) == "fails"
    assert judge("iii-often-std", perturbation=exact) == "holds within limits"
    assert judge("iii-often-std", perturbation=far) == "fails"


@pytest.mark.claim("iii-gain-early", "iii-off-manifold")
def test_sizes_of_kicks() -> None:
    thin = gaussian([20.0, 5.0, 1.0, 0.5], dim=16)
    right, wide = (kicked(d, thin, 8) for d in (thin, Gaussian(thin.mu, thin.U, 8 * thin.lam, 1.0)))
    for row in ("iii-gain-early", "iii-off-manifold"):
        assert (judge(row, perturbation=right), judge(row, perturbation=wide)) == ("holds", "fails"), row


# How far one Gaussian carries, and copies


@dataclass(frozen=True, eq=False)
class World(Subject):
    """A subject with data of its own."""

    train: Tensor = field(default_factory=lambda: torch.zeros(0))
    test: Tensor = field(default_factory=lambda: torch.zeros(0))

    def data(self, n: int, *, test: bool = True) -> Tensor:
        return (self.test if test else self.train)[:n]

    def pictures(self, n: int, *, test: bool = True) -> Tensor:
        return ((self.data(n, test=test) + 1) * 127.5).clamp(0, 255).to(torch.uint8)


@pytest.mark.claim("g-score", "g-early", "g-not-the-training-set")
def test_how_far_one_gaussian_carries() -> None:
    train, test = ((randn(n, 1, 4, 4, seed=n) > 0.7).double() + 0.2 * randn(n, 1, 4, 4, seed=n + 1) for n in (240, 60))
    g = Gaussian.from_moments(Moments.of(train))

    def measured(denoise: Any) -> dict:
        options = {"levels": levels, "decode": abs, "train": train, "test": test}
        made = World("tiny", denoise, g, (1, 4, 4), **options)  # type: ignore[arg-type]
        return carries.measure(made, Settings(seeds=tuple(range(4)), steps=12, profile="ci", batch=4, progress=False))

    exact, cloud = measured(g), measured(PointCloud(train))
    mean, against = measured(Gaussian.of(g.mu, 1e-9)), measured(lambda x, a, s: 2 * g.mu.reshape(1, 4, 4) - g(x, a, s))
    assert judge("g-score", approximation=exact) == "holds" and judge("g-score", approximation=against) == "fails"
    assert judge("g-early", approximation=exact) == "holds" and judge("g-early", approximation=mean) == "fails"
    coarse = measured(analytic(g, train, clusters=(2,))["k-means 2"])
    assert judge("g-not-the-training-set", approximation=coarse) == "holds"
    assert judge("g-not-the-training-set", approximation=cloud) == "fails"


@pytest.mark.claim("r-no-copies")
def test_copies() -> None:
    g = Gaussian(torch.zeros(16, dtype=F64), axes(16), torch.logspace(-1, -2, 16, dtype=F64))
    train, test = (g.sample(randn(400, 1, 4, 4, seed=seed)).clamp(-1, 1) for seed in (1, 2))
    reader = SimpleNamespace(shape=(1, 4, 4), look=lambda pictures: pictures)

    def measured(denoise: Any) -> dict | None:
        options = {"levels": levels, "decode": lambda x: (x / 2 + 0.5).clamp(0, 1), "reader": reader}
        made = World("tiny", denoise, g, (1, 4, 4), train=train, test=test, **options)  # type: ignore[arg-type]
        return retrieval.measure(made, Settings(seeds=tuple(range(120)), profile="book", batch=120, progress=False))

    assert judge("r-no-copies", retrieval=measured(g)).startswith("holds")
    assert judge("r-no-copies", retrieval=measured(PointCloud(train))) == "fails"


# Modes and guidance


@pytest.mark.claim("l-between-modes", "l-gaussian-modes")
def test_landscape() -> None:
    """Eight modes on three scales fork as the noise falls; a denoiser that exaggerates never settles in a mode."""
    base = gaussian([0.05, 0.04, 0.03, 0.02], dim=36)
    corners = torch.cartesian_prod(*(torch.tensor([-m, m], dtype=F64) for m in (4.0, 2.0, 1.0))) @ base.U[:, :3].T
    eight = Mixture(torch.full((8,), 1 / 8, dtype=F64), tuple(replace(base, mu=corner) for corner in corners))
    one = replace(base, lam=torch.tensor([16.05, 4.04, 1.03, 0.02], dtype=F64))
    settings = Settings(seeds=tuple(range(6)), steps=24, profile="book", progress=False)
    forks, plain, loud = (
        jacobian.measure(subject(d, one, (1, 6, 6)), settings) for d in (eight, one, lambda x, a, s: 1.2 * x / a)
    )
    assert judge("l-between-modes", landscape=forks).startswith("holds")
    assert judge("l-between-modes", landscape=plain) == "fails"
    assert judge("l-gaussian-modes", landscape=forks) == "holds"
    assert judge("l-gaussian-modes", landscape=loud) == "fails"


@pytest.mark.claim("l-classes-part")
def test_classes_part() -> None:
    """Forty images keep their class from one level on: that of the mixture, or a level eight times as clean."""
    law = [[0.0] * 40, [0.0] * 30 + [1.0] * 10, [1.0] * 40, [1.0] * 40, [1.0] * 40]
    late = [[0.0] * 40] * 4 + [[1.0] * 40]

    def parting(kept: list[list[float]]) -> dict:
        exact = {"kept": law, "speciation": 30.0}
        return {"classes": {"ratio": [8.0, 4.0, 2.0, 1.0, 0.5], "kept": kept, "mixture": exact}}

    assert judge("l-classes-part", landscape=parting(law)) == "holds"
    assert judge("l-classes-part", landscape=parting(late)) == "fails"


@pytest.mark.claim("s-guidance")
def test_guidance_narrows() -> None:
    """Spreads along three PCs under two prompts: the law's, and no effect."""
    told = [0.4, 0.9, 1.3]

    def runs(power: float) -> dict:
        found = []
        for prompt, scale in (("a", 0.5), ("b", 2.0)):
            law = [scale * v for v in told]
            seen = [2 * v**power for v in law]
            one = {"law": [1.0] * 3, "affine": [1.0] * 3, "measured": [2.0] * 3}
            found.append(one | {"prompt": prompt, "guidance": 1.0})
            found.append({"prompt": prompt, "guidance": 3.0, "law": law, "affine": law, "measured": seen})
        return {"runs": found}

    assert [judge("s-guidance", guidance=runs(power)) for power in (1.0, 0.0)] == ["holds", "fails"]


# Beside GANs


@pytest.mark.claim("k-anisotropic", "k-homogeneous", "k-shared")
def test_kinship() -> None:
    def found(value: float) -> dict:
        return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 8}

    def record(axes: float, same: float, shared: float) -> dict:
        overlap = {"map trained": shared, "map pictures": 0.3, "map untrained": 0.1}
        overlap |= {"map map": 0.7, "trained trained": 0.6, "pictures pictures": 0.5, "untrained untrained": 0.4}
        return {
            "map": {"pixels": {"participation": found(axes), "log": found(same)}},
            "theory_participation": 5.0,
            "overlap": {name: found(value) for name, value in overlap.items()} | {"random": 0.02},
        }

    alike, unlike = record(5.2, 0.95, 0.6), record(12.0, 0.4, 0.2)
    for row in ("k-anisotropic", "k-homogeneous", "k-shared"):
        assert (judge(row, kinship=alike), judge(row, kinship=unlike)) == ("holds", "fails"), row
