"""Rows that were trained under several seeds: their means, and what seeds add to intervals and tests."""

import math

import numpy as np
import pytest
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from evaluation.statistics.articles import sum_by_article
from evaluation.statistics.outcomes import Outcomes, Queries, by_seed, mean
from evaluation.statistics.resampling import intervals
from evaluation.statistics.significance import compare_all, standard_errors

R5 = ("r@5",)


def trained(shares, num=2000, seed=0):
    """Under each seed the row finds its share of the same easy queries: seeds differ, articles hardly do."""
    easy = np.random.default_rng(seed).permutation(num)
    return Outcomes.stack([one((easy < share * num).astype(np.int32)) for share in shares])


def one(ranks):
    ranks = np.asarray(ranks, np.int32)
    return Outcomes(ranks, ranks, np.zeros(len(ranks)))


def test_a_figure_is_the_mean_over_the_seeds(queries):
    row, known = Outcomes.stack([one([1, 0, 0, 0]), one([1, 1, 0, 6])]), queries([0, 0, 1, 1])
    assert (len(row), row.num_seeds) == (4, 2)
    np.testing.assert_array_equal(by_seed("r@5", row, known), [0.25, 0.5])
    assert mean("r@5", row, known) == 0.375
    # R@5 / Contain@50 is 1/1 and 2/3 under the two seeds.
    assert mean("eff@5", row, known) == pytest.approx((1.0 + 2.0 / 3.0) / 2.0)
    np.testing.assert_array_equal(row.take(np.array([True, False, False, True])).ranks, [[1, 0], [1, 6]])


def test_the_outcomes_of_a_single_seed_stay_as_they_are():
    assert Outcomes.stack([(row := one([1, 0]))]) is row


def test_the_variance_over_seeds_is_that_of_their_mean(queries):
    # Figures 0.25, 0.5 and 0.75: variance 1/16, of their mean 1/48. An untrained row adds nothing.
    rows = {"a": Outcomes.stack([one([1, 0, 0, 0]), one([1, 1, 0, 0]), one([1, 1, 1, 0])]), "line": one([1, 0, 1, 0])}
    sums = sum_by_article([(rows, queries([0, 1, 2, 3]))], R5)
    np.testing.assert_allclose((sums.seed_influences() ** 2).sum(axis=0)[:, 0], [1 / 48, 0.0])
    np.testing.assert_allclose(sums.by_run[:, 1, 0], [0.5, 0.5, 0.5])


def test_a_row_of_fewer_seeds_has_its_own_mean_and_its_own_variance(queries):
    rows = {"two": Outcomes.stack([one([1, 0]), one([1, 1])]), "three": Outcomes.stack([one([1, 0])] * 3)}
    sums = sum_by_article([(rows, queries([0, 1]))], R5)
    np.testing.assert_allclose(sums.by_run.mean(axis=0)[:, 0], [0.75, 0.5])
    # Figures 0.5 and 1: variance 1/8, of their mean 1/16.
    np.testing.assert_allclose((sums.seed_influences() ** 2).sum(axis=0)[:, 0], [1 / 16, 0.0])


def test_where_articles_say_all_the_same_an_interval_is_students_t_over_the_seeds():
    # Every query is its own article and there are many, so nearly all of the width is that of the seeds.
    row = trained([0.30, 0.40, 0.50], num=20_000)
    low, high = intervals(row, Queries.independent(20_000), R5, num_resamples=2000)["r@5"]
    half = student_t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (low, high) == (pytest.approx(0.4 - half, abs=0.02), pytest.approx(0.4 + half, abs=0.02))
    narrow = intervals(one(row.ranks[1]), Queries.independent(20_000), R5, num_resamples=500)["r@5"]
    assert narrow[1] - narrow[0] < 0.03


def test_a_difference_that_another_seed_may_turn_is_no_evidence():
    # Over the articles alone +2 points of 2,000 queries are far beyond chance; by seed they are +6, -5 and +5.
    rows = {"a": trained([0.46, 0.35, 0.45]), "line": trained([0.40])}
    (pair,) = compare_all(rows, Queries.independent(2000), R5)
    found = pair.metrics["r@5"]
    assert found.difference == pytest.approx(0.02)
    assert pair.better_on("r@5") is None
    assert found.p == found.p_t == pytest.approx(ttest_1samp([0.06, -0.05, 0.05], 0.0).pvalue, abs=0.03)
    (single,) = compare_all({"a": trained([0.42]), "line": trained([0.40])}, Queries.independent(2000), R5)
    assert single.better_on("r@5") == "a"


def test_seeds_that_agree_leave_the_evidence_of_the_articles():
    rows = {"a": trained([0.50, 0.50, 0.50]), "line": trained([0.40])}
    (pair,) = compare_all(rows, Queries.independent(2000), R5)
    assert pair.better_on("r@5") == "a"
    error, degrees = standard_errors(sum_by_article([(rows, Queries.independent(2000))], R5), [(0, 1)])
    assert (error[0, 0], degrees[0, 0]) == (pytest.approx(math.sqrt(0.1 * 0.9 / 1999), rel=1e-3), 1999)


def test_the_degrees_of_freedom_lie_between_those_of_seeds_and_articles():
    rows = {"a": trained([0.47, 0.50, 0.53]), "line": trained([0.40])}
    _, degrees = standard_errors(sum_by_article([(rows, Queries.independent(2000))], R5), [(0, 1)])
    assert 2 < degrees[0, 0] < 1999


def test_intervals_over_seeds_hold_the_truth():
    # 300 experiments of three seeds whose figures vary by 5 points: 95 % of the intervals hold 0.4.
    rng, held = np.random.default_rng(1), 0
    for _ in range(300):
        shares = np.clip(0.4 + 0.05 * rng.standard_normal(3), 0.05, 0.95)
        row = Outcomes.stack([one(rng.random(400) < share) for share in shares])
        low, high = intervals(row, Queries.independent(400), R5, num_resamples=300)["r@5"]
        held += low <= 0.4 <= high
    assert 0.92 <= held / 300 <= 1.0
