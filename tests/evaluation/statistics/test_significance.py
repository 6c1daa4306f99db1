"""Bootstrap intervals on planted data."""

import math

import numpy as np
import pytest

from evaluation.statistics import significance
from evaluation.statistics.significance import Outcomes, intervals, resampled_means, resampled_metrics


def outcomes(ranks, pool=None):
    ranks = np.asarray(ranks, np.int32)
    return Outcomes(ranks, ranks if pool is None else np.asarray(pool, np.int32), np.full(len(ranks), 0.5))


def test_an_interval_agrees_with_the_normal_approximation():
    hit = outcomes([1] * 300 + [0] * 700)
    low, high = intervals(hit)["r@5"]
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.004)
    assert high == pytest.approx(0.3 + half, abs=0.004)


def test_a_constant_has_an_interval_of_no_width():
    assert intervals(outcomes([1, 1, 1]))["cosine"] == (0.5, 0.5)


def test_efficiency_is_the_ratio_within_each_resample():
    # Every contained target is in the first five, so Eff@5 is 1 in every resample although both shares vary.
    mixed = outcomes([1, 2, 0, 0, 3, 0, 1, 0] * 20)
    resampled = resampled_metrics(mixed)
    assert resampled["r@5"].std() > 0.01
    np.testing.assert_array_equal(resampled["eff@5"], 1.0)
    assert intervals(mixed)["eff@5"] == (1.0, 1.0)


def test_efficiency_has_no_interval_when_nothing_is_contained():
    assert all(math.isnan(end) for end in intervals(outcomes([0, 0, 0]))["eff@5"])


def test_draws_are_paired_between_calls_and_blocks(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = resampled_means(values, 40, seed=1)
    np.testing.assert_allclose(whole[:, :1], resampled_means(values[:, :1], 40, seed=1))
    monkeypatch.setattr("evaluation.statistics.significance._DRAWS_AT_ONCE", 500)
    significance._drawn_counts.cache_clear()
    np.testing.assert_allclose(whole, resampled_means(values, 40, seed=1))


def test_no_queries_have_no_interval():
    assert all(math.isnan(end) for pair in intervals(outcomes([])).values() for end in pair)
