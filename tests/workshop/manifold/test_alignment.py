"""How spans agree: against dense linear algebra, known means of random spans, and planted copies of an image."""

import math

import numpy as np
import pytest
import torch
from partners import randn as random

from atelier.manifold import alignment
from painters import Gaussian


def gaussian(dim=24, rank=None):
    U = torch.linalg.qr(random(dim, dim, seed=3)).Q[:, : rank or dim]
    return Gaussian(random(dim, seed=4), U, torch.logspace(2, -2, U.shape[1], dtype=torch.float64), 0.0)


def test_overlap_of_spans_at_known_angles():
    a, b = torch.zeros(2, 2, 3).double(), torch.zeros(2, 2, 3).double()
    a[0, 0, 0], a[1, 0, 1] = 2.0, -1.0
    b[0, 0, 0], b[0, 1, 0], b[1, 0, 1], b[1, 1, 1] = math.cos(0.3), math.sin(0.3), math.cos(1.1), math.sin(1.1)
    torch.testing.assert_close(alignment.cosines(a, b), torch.tensor([0.3, 1.1]).double().cos())
    assert alignment.overlap(a, b) == pytest.approx((math.cos(0.3) ** 2 + math.cos(1.1) ** 2) / 2)
    mixed = torch.einsum("ij,j...->i...", random(2, 2, seed=9), a)
    assert alignment.overlap(a, mixed) == pytest.approx(1)


def test_random_spans_overlap_by_k_over_d():
    k, d = 4, 24
    drawn = [alignment.overlap(random(k, d, seed=2 * i), random(k, d, seed=2 * i + 1)) for i in range(300)]
    assert np.mean(drawn) == pytest.approx(k / d, abs=4 * np.std(drawn) / 300**0.5)


def test_copies_sum_to_the_image_and_frequency_bands_are_orthogonal():
    g, deviation = gaussian(48), random(3, 4, 4)
    found = alignment.copies(g, deviation)
    for name in ("frequency", "pcs"):
        torch.testing.assert_close(found[name].sum(0), deviation)
        gram = found[name].flatten(1) @ found[name].flatten(1).T
        assert float((gram - gram.diagonal().diag()).abs().max()) < 1e-12
    assert len(found["pcs"]) == 4  # PCs 1-3, 4-10, 11-30, and 31-48
    parts = g.U.T @ found["pcs"].flatten(1).T
    assert float(parts[3:, 0].abs().max()) < 1e-12
    assert float(parts[:3, 1].abs().max()) < 1e-12
    one = alignment.inside(deviation[None] / deviation.norm(), found["image"])
    assert float(one) == pytest.approx(1)
    assert torch.linalg.matrix_rank(found["all"].flatten(1)) == len(found["all"])
    assert "frequency" not in alignment.copies(g, deviation, frequency=False)
    large = random(1, 16, 16)
    few = Gaussian(torch.zeros(256).double(), torch.eye(256).double()[:, :4], torch.ones(4).double())
    found = alignment.copies(few, large)
    assert len(found["frequency"]) == 5 and len(found["pcs"]) == 2  # PCs 1-3, and the rest
    torch.testing.assert_close(found["frequency"].sum(0), large)


def test_a_planted_contrast_direction_is_caught_and_a_new_one_is_not():
    g = gaussian(48)
    deviation, new = random(3, 4, 4), random(3, 4, 4, seed=1)
    span = alignment.copies(g, deviation)["all"]
    Q = alignment.orthonormal(span).flatten(1)
    new = (new.flatten() - Q.T @ (Q @ new.flatten())).reshape(new.shape)
    planted = torch.stack([deviation, span[1] - 3 * span[5], new, deviation / deviation.norm() + new / new.norm()])
    share = alignment.inside(planted, span)
    torch.testing.assert_close(share, torch.tensor([1.0, 1.0, 0.0, 0.5]).double(), atol=1e-9, rtol=0)
    drawn = alignment.inside(random(2000, 3, 4, 4, seed=2), span)
    assert float(drawn.mean()) == pytest.approx(len(span) / 48, abs=0.01)


def test_components_of_many_paths_are_the_svd_of_each():
    paths = random(7, 3, 2, 5)
    vectors, values = alignment.components(paths, 3)
    for b in range(3):
        _, S, V = torch.linalg.svd((paths[:, b] - paths[:, b].mean(0)).flatten(1), full_matrices=False)
        torch.testing.assert_close(values[b], S[:3])
        assert (vectors[b].flatten(1) @ V[:3].T).abs().diagonal().min() > 1 - 1e-9
    assert alignment.components(paths[:1].expand(4, -1, -1, -1), 2)[0].abs().max() == 0
