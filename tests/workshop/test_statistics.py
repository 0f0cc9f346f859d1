"""Intervals that cover, shares, and rank correlations against brute force and closed forms."""

import itertools
import json

import numpy as np
import pytest
import torch
from scipy import stats

from atelier.statistics import MANY, bootstrap, mean, proportion, rank_correlation, share, short, spearman


def test_the_interval_of_a_mean_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.exponential(size=(300, 40))
    found = [bootstrap(row, draws=400)[0] for row in samples]
    covered = np.mean([f.low <= 1 <= f.high for f in found])
    assert 0.87 < covered < 0.97
    width = np.mean([f.high - f.low for f in found])
    assert width == pytest.approx(2 * 1.96 / 40**0.5, rel=0.1)
    assert all(f.value == pytest.approx(row.mean()) and f.n == 40 for f, row in zip(found, samples))


def test_a_statistic_may_give_several_numbers_and_sees_whole_rows():
    rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) + torch.tensor([0.0, 5.0])
    first, second, together = bootstrap(
        rows, lambda part: np.append(part.mean(0), np.corrcoef(part.T)[0, 1]), draws=300
    )
    assert first.low < 0.2 and 4.7 < second.low < second.value < second.high < 5.3
    assert together.value == pytest.approx(float(torch.corrcoef(rows.T)[0, 1]))
    assert json.loads(json.dumps(second.record()))["n"] == 200
    assert bootstrap(rows, draws=50) == bootstrap(rows, draws=50)
    plain, normal = (bootstrap(rows[:, 0], normal=how)[0] for how in (False, True))
    assert (normal.low, normal.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    assert normal.low + normal.high == pytest.approx(2 * normal.value)


@pytest.mark.parametrize("n", [5, MANY - 1, MANY, 60])
def test_the_interval_is_of_the_standard_error(n):
    """For a mean Student's below MANY samples, and from there on a bootstrap's, which knows no Student."""
    rows = np.random.default_rng(n).normal(size=n)
    found = bootstrap(rows, draws=4000, normal=True)[0]
    error = rows.std(ddof=1) / n**0.5 if n < MANY else rows.std() / n**0.5
    reach = error * (stats.t.ppf(0.975, n - 1) if n < MANY else 1.96)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=1e-9 if n < MANY else 0.03)
    plain = bootstrap(rows, draws=4000)[0]
    assert (plain.high - plain.low) / 2 == pytest.approx(reach, rel=0.06)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [4, MANY])
def test_a_number_that_never_exists_has_an_interval_of_nan(n):
    rows = np.arange(float(n))
    there, never = bootstrap(rows, lambda part: np.array([part.mean(), np.nan]), draws=20)
    assert there.low < there.value < there.high and np.isnan([never.value, never.low, never.high]).all()
    some = bootstrap(rows, lambda part: part.mean() if len(set(part)) < n else np.nan, draws=200)[0]
    assert np.isnan(some.value) and (np.isnan(some.low) == (n < MANY)), "draws that have none are passed over"


def test_one_sample_has_no_interval_and_none_is_refused():
    alone = mean(np.array([3.0]))
    assert alone.value == 3 and np.isnan(alone.low) and np.isnan(alone.high) and alone.n == 1
    assert [one.value for one in bootstrap(np.array([[3.0, 4.0]]))] == [3, 4]
    with pytest.raises(ValueError, match="at least one"):
        bootstrap(np.empty((0, 2)))


@pytest.mark.parametrize("n", [3, 5, 12, 20])
def test_few_samples_have_a_t_interval_that_covers(n):
    """Percentiles of a bootstrap of five cover four times in five."""
    rows = np.random.default_rng(1).normal(2, 3, size=(2000, n))
    found = [mean(row) for row in rows]
    first = stats.t.interval(0.95, n - 1, rows[0].mean(), rows[0].std(ddof=1) / n**0.5)
    assert (found[0].low, found[0].high) == pytest.approx(first)
    assert 0.94 < np.mean([f.low <= 2 <= f.high for f in found]) < 0.96
    ratio = bootstrap(np.abs(rows[0][:, None] + [0, 1]), lambda part: part[:, 0].mean() / part[:, 1].mean())[0]
    assert ratio.low < ratio.value < ratio.high and ratio.low + ratio.high == pytest.approx(2 * ratio.value)


def test_many_samples_have_a_bootstrap_and_a_share_stays_a_share():
    rows = np.random.default_rng(2).exponential(size=MANY)
    found = mean(rows)
    assert found.high - found.value > found.value - found.low  # percentiles see that the sample is skewed
    ends = share([0.9, 1, 1, 0.95, 0.99])
    assert mean([0.9, 1, 1, 0.95, 0.99]).high > 1 == ends.high and ends.low == pytest.approx(
        mean([0.9, 1, 1, 0.95, 0.99]).low
    )
    assert share([0.0, 0, 0.1, 0.01]).low == 0 > mean([0.0, 0, 0.1, 0.01]).low and ends.n == 5
    assert ends.value == pytest.approx(0.968)
    table = torch.arange(30.0).reshape(5, 6)
    assert mean(table).value == 14.5 and mean(table).n == 30


@pytest.mark.parametrize("hits, n", [(0, 24), (7, 24), (40, 40), (50, 200)])
def test_shares_have_wilsons_interval(hits, n):
    found, z, p = proportion(hits, n), stats.norm.ppf(0.975), hits / n
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5,
    )
    assert (found.value, found.low, found.high) == pytest.approx((p, max(centre - half, 0), min(centre + half, 1)))


@pytest.mark.parametrize("hits, n", [(0, 5), (3, 5), (20, 20)])
def test_shares_of_few_cases_have_the_exact_interval(hits, n):
    found = proportion(hits, n)
    low, high = stats.beta.ppf(0.025, hits, n - hits + 1), stats.beta.ppf(0.975, hits + 1, n - hits)
    assert (found.low, found.high) == pytest.approx((0 if hits == 0 else low, 1 if hits == n else high))


def test_shares_outside_0_to_1_are_refused():
    for hits, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="a share needs"):
            proportion(hits, n)


def test_rank_correlation_and_its_exact_p():
    x, y = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 1, 4, 3, 6, 10])
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(stats.spearmanr(x, y)[0]) and found.n == 6
    every = [stats.spearmanr(x, order)[0] for order in itertools.permutations(y)]
    assert found.p == pytest.approx(np.mean(np.array(every) >= found.rho - 1e-12))
    assert rank_correlation(x, x).p == pytest.approx(1 / 720) and rank_correlation(x, -x).p == 1
    assert rank_correlation(x, np.exp(y)).rho == found.rho and found.low < found.rho < found.high
    assert np.isnan(rank_correlation(x[:3], y[:3]).low) and rank_correlation(x, x).low == 1
    ties = np.array([1.0, 1, 2, 2, 3, 3])
    assert rank_correlation(x, ties).rho == pytest.approx(stats.spearmanr(x, ties)[0])


def test_p_is_exact_up_to_eight_pairs_and_the_interval_is_bonetts_and_wrights():
    x = np.arange(9.0)
    assert rank_correlation(x[:8], x[:8]).p == pytest.approx(1 / 40_320)
    assert rank_correlation(x, x).p == pytest.approx(1 / 20_001)
    y = np.array([3.0, 0, 2, 1, 6, 4, 8, 5, 7])
    found, rho = rank_correlation(x, y), stats.spearmanr(x, y)[0]
    reach = 1.959964 * np.sqrt((1 + rho**2 / 2) / 6)
    ends = np.tanh([np.arctanh(rho) - reach, np.arctanh(rho) + reach])
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-5)


def test_many_pairs_take_random_orders():
    generator = np.random.default_rng(3)
    x, noise = generator.normal(size=(2, 30))
    found = rank_correlation(x, 0.4 * x + noise)
    expected = stats.spearmanr(x, 0.4 * x + noise, alternative="greater").pvalue  # type: ignore[attr-defined]
    assert found.p == pytest.approx(expected, rel=0.25, abs=2e-4)
    assert rank_correlation(x, x).p == pytest.approx(1 / 20_001)
    assert 0.3 < rank_correlation(x, generator.normal(size=30)).p + 0.3 < 1.3
    with_gaps = rank_correlation(np.append(x, np.nan), np.append(x, 1.0))
    assert with_gaps.n == 30 and with_gaps.rho == pytest.approx(1)


def test_the_interval_of_a_rank_correlation_of_ten_pairs_covers():
    """A bootstrap over ten pairs holds the true value of .69 nine times in ten."""
    generator = np.random.default_rng(4)
    x, noise = generator.normal(size=(2, 400, 10))
    truth = 6 / np.pi * np.arcsin(0.7071 / 2)
    found = [rank_correlation(a, a + b) for a, b in zip(x, noise)]
    assert 0.93 < np.mean([f.low <= truth <= f.high for f in found]) < 0.985


def test_two_pairs_have_no_rank_correlation():
    """Two are always in order or always not: once 1.0 entered the intervals of resampled factors."""
    x = np.array([1.0, 2, 3, 4])
    assert np.isnan(spearman(x[:2], x[:2])) and np.isnan(spearman(x[:2], -x[:2]))
    assert np.isnan(spearman(x, np.array([1.0, 2, np.nan, np.inf])))
    assert np.isnan(spearman(x, np.ones(4))) and spearman(x[:3], torch.tensor([3.0, 2, 1])) == pytest.approx(-1)
    with pytest.raises(ValueError, match="at least 3 pairs, got 2"):
        rank_correlation(x, np.array([1.0, 2, np.nan, np.nan]))


def test_short_numbers_keep_their_nesting():
    assert short(torch.tensor([[1.23456, 0.000123456], [3.0, 12345.6]])) == [[1.235, 0.0001235], [3.0, 12350.0]]
    assert np.isnan(short(torch.tensor([float("nan")]), 2)[0])
