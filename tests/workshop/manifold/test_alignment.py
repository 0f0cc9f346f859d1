"""How spans agree: against dense linear algebra, known means of random spans, and planted copies of an image."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from atelier.manifold import SamplerMap, StepMap, alignment, searched
from painters import Gaussian, Levels
from painters.levels import vp_linear
from painters.theory.gaussian import ode_gain


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


def test_reached_is_one_for_the_leading_directions_only():
    J = torch.from_numpy(ortho_group.rvs(24, random_state=0)) * torch.logspace(1, -1, 24).double()  # V = identity
    eye = torch.eye(24).double()
    values = torch.linalg.svdvals(J)[:3]

    def push(v):
        return v @ J.T

    assert alignment.reached(push, random(3, 3, seed=1) @ eye[:3], values) == pytest.approx(1)
    want = float(torch.logspace(1, -1, 24).double()[3:6].square().sum() / values.square().sum())
    assert alignment.reached(push, eye[3:6], values) == pytest.approx(want)


def test_consensus_leads_the_summed_metric():
    inputs = [alignment.orthonormal(random(3, 10, seed=i)) for i in range(4)]
    values = [torch.tensor([3.0, 2.0, 1.0]).double() + i for i in range(4)]
    H = sum(v.T @ torch.diag(s**2) @ v for v, s in zip(inputs, values))
    want = torch.linalg.eigh(H).eigenvectors[:, -2:].T
    assert alignment.overlap(alignment.consensus(inputs, values, 2), want) == pytest.approx(1)


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


@pytest.mark.parametrize("dim", [8, 40])
def test_pooled_components_are_those_of_all_centred_paths(dim):
    paths = random(6, 4, dim) + 10 * random(4, dim, seed=1)
    rows = (paths - paths.mean(0)).transpose(0, 1).reshape(-1, dim)
    _, S, V = torch.linalg.svd(rows, full_matrices=False)
    found = alignment.pooled(paths, 3)
    assert (found.vectors @ V[:3].T).abs().diagonal().min() > 1 - 1e-8
    torch.testing.assert_close(found.shares, S[:3].square() / S.square().sum())
    assert found.left == 1


def test_pooling_leaves_what_the_spans_do_not_hold():
    paths, spans = random(6, 4, 12), [random(2, 12, seed=10 + i) for i in range(4)]
    centred = paths - paths.mean(0)
    kept = []
    for b, span in enumerate(spans):
        Q = torch.linalg.qr(span.T).Q
        kept.append(centred[:, b] @ (torch.eye(12).double() - Q @ Q.T))
    found = alignment.pooled(paths, 2, spans)
    assert found.left == pytest.approx(float(torch.cat(kept).square().sum() / centred.square().sum()))
    V = torch.linalg.svd(torch.cat(kept))[2]
    assert (found.vectors @ V[:2].T).abs().diagonal().min() > 1 - 1e-8


def test_on_a_gaussian_everything_agrees():
    g, levels = gaussian(), Levels.of(vp_linear(), 20)
    starts = levels.start(random(3, 24))
    for maps, gain in (
        ([SamplerMap(g, x, levels) for x in starts], ode_gain(g.lam[:2], frm=levels[0])),
        ([StepMap(g, x, (0.1, 1.0)) for x in starts], 0.1 * g.lam[:2] / (0.01 * g.lam[:2] + 1)),
    ):
        found = [searched(run, random(2, 24, seed=7), blocks=6) for run in maps]
        record = alignment.compare(found, [run.push for run in maps], g, cold=found)
        for key in ("inputs", "images", "sides", "between", "cold", "agree"):
            assert min(record[key]) > 0.999, key
        assert min(record["reached"]["pcs"] + record["reached"]["others"]) > 0.999
        assert max(record["reached"]["random"]) < 0.9
        assert np.min(record["input_cosines"]) > 0.999
        assert np.max(record["residuals"]) < 0.05
        assert np.asarray(record["values"]) == pytest.approx(np.tile(gain, (3, 1)), rel=0.05)


def test_what_is_not_aligned_is_said_not_to_be():
    """A map whose leading directions are the last PCs of the data."""
    g = gaussian()
    other = Gaussian(g.mu, g.U.flip(1), g.lam)
    maps = [StepMap(other, x, (0.1, 1.0)) for x in random(2, 24)]
    found = [searched(run, random(2, 24, seed=7), blocks=6) for run in maps]
    record = alignment.compare(found, [run.push for run in maps], g, cold=found)
    assert max(record["inputs"] + record["images"] + record["cold"]) < 0.01
    assert min(record["between"]) > 0.999
    assert max(record["reached"]["pcs"]) < 0.01 < min(record["reached"]["others"])


def test_endpoint_paths_of_a_gaussian_are_copies_of_the_image_and_unrelated_ones_are_not():
    g, levels = gaussian(48), Levels.of(vp_linear(), 20, spacing="logsnr")
    run = g.trajectory(levels.start(random(12, 3, 4, 4)), levels)
    record = alignment.endpoints(g, run.x0, run.final, run.x0, k=3, frequency=True)
    assert record["inside"]["image"][0]["value"] > 0.8
    assert record["inside"]["pcs"][1]["value"] > 0.8
    assert record["inside"]["other"][1]["value"] < 0.5
    assert record["pooled"]["gaussian"] == pytest.approx(1)
    assert record["pooled"]["left"] == pytest.approx(record["pooled"]["left_gaussian"], rel=1e-3)
    assert record["pooled"]["left"] < 0.02
    assert sum(v["value"] for v in record["variance"]) == pytest.approx(1, abs=0.02)
    strange = alignment.endpoints(g, run.x0, run.final.roll(1, 0), run.x0, k=3, frequency=True)
    assert strange["inside"]["image"][0]["value"] < 0.5
    assert strange["pooled"]["left"] > 10 * record["pooled"]["left"]


class Linear:
    """The map v -> J v as a map to search."""

    calls = 7

    def __init__(self, J):
        self.J = J

    def push(self, v):
        return v @ self.J.T

    def pull(self, u):
        return u @ self.J


def test_left_and_right_of_maps_that_are_not_symmetric():
    g, k = gaussian(12), 2
    Js = [random(12, 12, seed=i) * torch.logspace(0, -2, 12).double() for i in (1, 2, 3)]
    found = [searched(Linear(J), random(k, 12, seed=7), blocks=6) for J in Js]  # type: ignore[arg-type]
    record = alignment.compare(found, [Linear(J).push for J in Js], g, cold=found[:1])
    U, V = (torch.stack([torch.linalg.svd(J)[i] for J in Js]) for i in (0, 2))
    pcs = g.U[:, :k]

    def shared(a, b):
        return float((a @ b).square().sum()) / k

    for i, J in enumerate(Js):
        left, right = U[i][:, :k].T, V[i][:k]
        assert record["inputs"][i] == pytest.approx(shared(right, pcs), rel=1e-4)
        assert record["images"][i] == pytest.approx(shared(left, pcs), rel=1e-4)
        assert record["sides"][i] == pytest.approx(shared(left, right.T), rel=1e-4)
        others = [shared(right, V[j][:k].T) for j in range(3) if j != i]
        assert record["between"][i] == pytest.approx(sum(others) / 2, rel=1e-4)
        S = torch.linalg.svdvals(J)
        assert record["reached"]["pcs"][i] == pytest.approx(
            float((J @ pcs).square().sum() / S[:k].square().sum()), rel=1e-4
        )
        rest = sum(V[j][:k].T @ torch.linalg.svdvals(Js[j])[:k].square().diag() @ V[j][:k] for j in range(3) if j != i)
        lead = torch.linalg.eigh(rest).eigenvectors[:, -k:]
        assert record["reached"]["others"][i] == pytest.approx(
            float((J @ lead).square().sum() / S[:k].square().sum()), rel=1e-3
        )
        assert record["input_cosines"][i] == pytest.approx(torch.linalg.svdvals(right @ pcs).tolist(), rel=1e-3)
    assert record["cold"] == record["inputs"][:1]
    assert record["agree"] == pytest.approx([1.0])
    assert record["nfe"] == [7 * 12 * 5] * 3


def test_a_residual_is_stated_relative_to_its_value():
    J = random(20, 20) * torch.logspace(1, 0, 20, dtype=torch.float64)
    found = searched(Linear(J), random(2, 20, seed=7), blocks=2)  # type: ignore[arg-type]
    record = alignment.compare([found], [Linear(J).push], gaussian(20), cold=[found])
    direct = (found.images @ J - found.values[:, None] * found.inputs).norm(dim=1) / found.values
    assert record["residuals"][0] == pytest.approx(direct.tolist(), rel=1e-3)
    assert math.isnan(record["between"][0]) and math.isnan(record["reached"]["others"][0])


def test_the_record_of_endpoint_paths_against_a_plain_svd():
    g = gaussian(48)
    paths, images = random(9, 2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    record = alignment.endpoints(g, paths, images, paths, k=3, frequency=True)
    variance, aligned, image = [], [], []
    for b in range(2):
        _, S, V = torch.linalg.svd((paths[:, b] - paths[:, b].mean(0)).flatten(1), full_matrices=False)
        variance.append(S[:4].square() / S.square().sum())
        aligned.append((V[:4] @ g.U[:, :3]).square().sum(1))
        deviation = images[b].flatten() - g.mu
        image.append((V[:4] @ deviation).square() / deviation.square().sum())
    for key, want in (("variance", variance), ("aligned", aligned)):
        assert [v["value"] for v in record[key]] == pytest.approx(torch.stack(want).mean(0).tolist())
    assert [v["value"] for v in record["inside"]["image"]] == pytest.approx(torch.stack(image).mean(0).tolist())
    assert record["random"] == len(alignment.copies(g, images[0])["all"]) / 48
