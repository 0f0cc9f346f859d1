"""Targets: their ends, their tables, one prompt a seed under guidance, and laws of digits against scikit-learn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from worlds import GAUSSIAN, MIXTURE, on_law

from atelier.data import scenes
from atelier.faster import targets
from atelier.faster.targets import FAR, NEAR, of_model, target
from painters.schedules import cosine, edm, flow, vp_linear


@pytest.mark.parametrize(
    ("schedule", "high", "low"),
    [
        (edm(), 80.0, 0.002),
        (edm(sigma_min=1e-5), 80.0, NEAR),
        (cosine(), FAR, NEAR),
        (flow(), FAR, NEAR),
        (vp_linear(), None, None),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_the_range_is_that_of_training_where_it_is_finite(schedule, high, low):
    found = on_law(GAUSSIAN, schedule)
    assert found.range == pytest.approx((high, low) if high else schedule.ends)
    assert len(found.table) == 1000 and found.table.dtype == torch.float64
    assert found.table[[-1, 0]].tolist() == pytest.approx(found.range) and bool((found.table.diff() >= 0).all())
    middle = schedule.at(torch.tensor([500 / 1000 if high is None else 499 / 999], dtype=torch.float64))
    assert float(found.table[499]) == pytest.approx(float(middle[1] / middle[0]))
    assert found.allows("even") and found.allows("karras") == (found.range == schedule.ends)


def test_noise_is_unit_and_belongs_to_the_seeds():
    found = on_law(MIXTURE, edm())
    assert found.noise([3, 5]).dtype == torch.float64 and found.noise([3, 5]).shape == (2, 6)
    torch.testing.assert_close(found.noise([5]), found.noise([3, 5])[1:])


def test_under_guidance_each_seed_has_its_prompt_and_an_answer_takes_two_calls():
    asked = []
    model = SimpleNamespace(
        moments=None, schedule=vp_linear(), shape=(1, 2, 2), weights="w", prediction="sample", dtype=torch.float32,
        denoiser=lambda *prompts, **options: asked.append((prompts, options)) or "denoiser",
    )  # fmt: skip
    free, one, three = (of_model("m", model, guidance=w) for w in (None, 1.0, 3.0))  # type: ignore[arg-type]
    assert [found.calls for found in (free, one, three)] == [1, 1, 2]
    assert len({found.identity for found in (free, one, three)}) == 3 and free.gaussian is None
    assert free.denoiser([0, 1]) == three.denoiser([1, 66]) == "denoiser"
    captions = scenes.caption(scenes.sample(64, scenes.TEST_SEEDS.start))
    assert asked == [((), {}), (([captions[1], captions[2]],), {"guidance": 3.0})]
    other = of_model("m", SimpleNamespace(**{**vars(model), "weights": "v"}))  # type: ignore[arg-type]
    assert other.identity != free.identity


def test_laws_of_the_digits():
    x, labels = load_digits(return_X_y=True)
    x = x / 8 - 1
    one, mixed, streaming = (target(name) for name in ("gaussian", "mixture", "mixture-flow"))
    for found in (one, mixed, streaming):
        assert found.shape == (64,) and found.model is None and found.calls == 1 and found.gaussian is not None
        np.testing.assert_allclose(found.gaussian.mu, x.mean(0), atol=1e-12)
        U, lam = found.gaussian.U, found.gaussian.lam
        np.testing.assert_allclose((U * lam) @ U.T, np.cov(x.T), atol=1e-10)
    assert (one.schedule.name, mixed.schedule.name, streaming.schedule.name) == ("vp-linear", "vp-linear", "flow")
    law = mixed.denoiser([0])
    assert law.weights.tolist() == pytest.approx((np.bincount(labels) / len(x)).tolist())  # type: ignore[attr-defined]
    assert {len(part.lam) for part in law.components} == {40}  # type: ignore[attr-defined]
    assert one.denoiser([0]) is one.gaussian and one.identity != mixed.identity != streaming.identity


def test_an_identity_is_of_the_law_and_the_schedule():
    same = {on_law(MIXTURE, vp_linear()).identity for _ in range(2)}
    others = {on_law(GAUSSIAN, vp_linear()).identity, on_law(MIXTURE, edm()).identity}
    assert len(same) == 1 and len(same | others) == 3


def test_names_that_are_no_target_are_models(monkeypatch):
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return SimpleNamespace(
            moments=None, schedule=vp_linear(), shape=(1,), weights="w", prediction="sample", dtype=torch.float32
        )

    monkeypatch.setattr(targets, "load", load)
    assert target("some-model", device="cpu").name == "some-model" and target("scenes-sd-w3").calls == 2
    assert target("scenes-sd-w1").calls == 1 and target("scenes-sd-w1").name == "scenes-sd-w1"
    assert asked[:2] == [("some-model", {"device": "cpu"}), ("scenes-sd", {"device": "auto"})]
