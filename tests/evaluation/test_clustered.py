"""Intervals over whole articles, on figures computed by hand."""

import math

import numpy as np
import pytest

from evaluation.clustered import cluster_sums, resampled_mean_over_runs, run_means
from evaluation.significance import percentile_bounds


def column(values):
    return np.asarray(values, float)[:, None]


def test_sums_by_cluster_end_with_the_number_of_queries():
    values = np.array([[1.0, 2.0], [0.0, 4.0], [1.0, 8.0]])
    np.testing.assert_array_equal(cluster_sums(values, np.array([7, 3, 7])), [[0, 4, 1], [2, 10, 2]])


def test_every_run_weighs_the_same_however_many_queries_it_has():
    # 1/2 of two queries and 1/4 of four: 3/8, while 2 of 6 queries would be 1/3.
    samples = [
        cluster_sums(column([1, 0]), np.array([0, 1])),
        cluster_sums(column([1, 0, 0, 0]), np.array([0, 1, 1, 2])),
    ]
    np.testing.assert_array_equal(run_means(samples), [[0.5], [0.25]])
    assert resampled_mean_over_runs(samples).mean() == pytest.approx(0.375, abs=0.02)


def test_an_article_is_drawn_with_all_of_its_queries():
    # Article 0: one query, a hit. Article 1: three misses. Draws 00, 01 or 10, 11 give 1, 1/4, 0.
    drawn = resampled_mean_over_runs([cluster_sums(column([1, 0, 0, 0]), np.array([0, 1, 1, 1]))])[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(counts / len(drawn), [0.25, 0.5, 0.25], atol=0.04)


def test_queries_that_hit_and_miss_together_count_as_one():
    # 40 articles of 50 queries each, half of them all hits: the error is that of 40 outcomes, not of 2,000.
    sample = cluster_sums(column(np.repeat([0, 1], 1000)), np.repeat(np.arange(40), 50))
    low, high = percentile_bounds(resampled_mean_over_runs([sample])[:, 0])
    half = 1.96 * math.sqrt(0.25 / 40)
    assert (low, high) == (pytest.approx(0.5 - half, abs=0.03), pytest.approx(0.5 + half, abs=0.03))


def test_two_runs_halve_the_variance_since_each_has_draws_of_its_own():
    sample = cluster_sums(column(np.tile([0, 1], 50)), np.arange(100))
    one, two = (resampled_mean_over_runs([sample] * runs)[:, 0].var() for runs in (1, 2))
    assert two == pytest.approx(one / 2, rel=0.15)
