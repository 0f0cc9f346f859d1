"""Guidance between two Gaussians: the closed law against the integrated flow of the guided denoiser."""

import math

import pytest
import torch

from atelier.learning.guidance import guided_gain, guided_offset
from painters import solve
from painters.levels import CLEAN, Levels
from painters.schedules import edm, flow, vp_linear
from painters.theory import Gaussian
from painters.trajectory import Frames

WIDE = torch.tensor([4.0, 2.0, 0.5], dtype=torch.float64)
NARROW = torch.tensor([1.0, 1.9, 0.02], dtype=torch.float64)
CENTRE = torch.tensor([0.0, 0.3, -1.0], dtype=torch.float64)
CLASS = torch.tensor([1.3, -0.4, 0.5], dtype=torch.float64)


def guided(w, mu_u=CENTRE, lam_u=WIDE, mu_c=CLASS, lam_c=NARROW):
    U = torch.eye(len(mu_u), dtype=torch.float64)
    all_data, one_class = Gaussian(mu_u, U, lam_u), Gaussian(mu_c, U, lam_c)
    return lambda x, a, s: all_data(x, a, s) + w * (one_class(x, a, s) - all_data(x, a, s))


@pytest.mark.statement("prop-guidance-law")
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0, 7.5])
@pytest.mark.parametrize("schedule", [vp_linear(), edm(), flow()], ids=lambda s: s.name)
def test_the_law_is_the_flow_of_the_guided_denoiser(w, schedule):
    levels = Levels.of(schedule, 300)
    x = levels.start(torch.randn(16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    end = solve(guided(w), x, levels, solver="heun", save=Frames(every=None), progress=False).final
    start = (float(levels.alpha[0]), float(levels.sigma[0]))
    gain = guided_gain(WIDE, NARROW, w, frm=start)
    law = gain * x + guided_offset(CENTRE, WIDE, CLASS, NARROW, w, frm=start)
    assert float((end - law).norm() / law.norm()) < 4e-3


@pytest.mark.parametrize(("w", "std", "mean"), [(1.0, 1.0, 1.29), (3.0, 0.25, 1.95), (7.5, 0.011, 1.87)])
def test_verified_values(w, std, mean):
    one = [torch.tensor([v], dtype=torch.float64) for v in (0.0, 4.0, 1.3, 1.0)]
    mu_u, lam_u, mu_c, lam_c = one
    start = (1.0, 1e6)
    assert float(guided_gain(lam_u, lam_c, w, frm=start) * 1e6) == pytest.approx(std, rel=0.05)
    assert float(guided_offset(mu_u, lam_u, mu_c, lam_c, w, frm=start)) == pytest.approx(mean, abs=0.01)


def test_standard_deviation_from_pure_noise():
    for w in (1.0, 3.0, 7.5):
        got = guided_gain(WIDE, NARROW, w, frm=(0.0, 1.0))
        assert torch.allclose(got, NARROW.sqrt() * (NARROW / WIDE) ** ((w - 1) / 2), rtol=1e-12)


def test_equal_covariances_move_the_mean_by_w_and_only_then():
    for w in (0.5, 1.0, 3.0, 7.5):
        moved = guided_offset(CENTRE, WIDE, CLASS, WIDE, w, frm=(0.0, 1.0))
        assert torch.allclose(moved, CENTRE + w * (CLASS - CENTRE), rtol=1e-10)
    narrower = guided_offset(CENTRE, WIDE, CLASS, NARROW, 7.5, frm=(0.0, 1.0))
    assert float((narrower - CENTRE)[0]) < 0.25 * 7.5 * float((CLASS - CENTRE)[0])


def test_guidance_one_and_zero_are_the_two_gaussians():
    U = torch.eye(3, dtype=torch.float64)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frm, to = (0.1, 0.995), (0.8, 0.6)
    for w, mu, lam in ((0.0, CENTRE, WIDE), (1.0, CLASS, NARROW)):
        law = guided_gain(WIDE, NARROW, w, frm=frm, to=to) * x
        law = law + guided_offset(CENTRE, WIDE, CLASS, NARROW, w, frm=frm, to=to)
        assert torch.allclose(law, Gaussian(mu, U, lam).flow(x, frm=frm, to=to), atol=1e-9)


def test_flows_compose():
    a, b = (0.2, 0.9), (0.7, 0.5)
    parts = (CENTRE, WIDE, CLASS, NARROW, 3.0)
    first, second = guided_offset(*parts, frm=a, to=b), guided_offset(*parts, frm=b, to=CLEAN)
    whole = guided_offset(*parts, frm=a, to=CLEAN)
    assert torch.allclose(guided_gain(WIDE, NARROW, 3.0, frm=b) * first + second, whole, atol=1e-9)
    assert math.isclose(float(guided_offset(*parts, frm=a, to=a).abs().max()), 0.0, abs_tol=1e-12)
    assert torch.equal(guided_offset(*parts, frm=a, to=(0.0, 1.0)), torch.zeros_like(CENTRE))  # noise has no mean


def test_a_direction_without_variance_is_refused():
    with pytest.raises(ValueError, match="positive variances"):
        guided_offset(CENTRE, WIDE, CLASS, torch.zeros(3, dtype=torch.float64), 2.0, frm=(0.0, 1.0))
