"""Intervals over whole articles, on figures computed by hand."""

import math

import numpy as np
import pytest

from evaluation.statistics.clustered import article_sums, resampled_mean_over_runs, run_means
from evaluation.statistics.significance import percentile_bounds


def sums(*runs):
    """From (outcomes, articles) of each run."""
    return article_sums([np.asarray(values, float)[:, None] for values, _ in runs], [np.asarray(a) for _, a in runs])


def test_sums_by_article_and_run_end_with_the_number_of_queries():
    found = sums(([1, 0, 1], [7, 3, 7]), ([1, 1], [9, 3]))
    np.testing.assert_array_equal(found, [[[0, 1], [1, 1]], [[2, 2], [0, 0]], [[0, 0], [1, 1]]])


def test_every_run_weighs_the_same_however_many_queries_it_has():
    # 1/2 of two queries and 1/4 of four: 3/8, while 2 of all 6 queries would be 1/3.
    found = sums(([1, 0] * 20, range(40)), ([1, 0, 0, 0] * 20, range(80)))
    np.testing.assert_array_equal(run_means(found), [[0.5], [0.25]])
    assert resampled_mean_over_runs(found).mean() == pytest.approx(0.375, abs=0.01)


def test_an_article_is_drawn_with_all_of_its_queries():
    # Article 0: one query, a hit. Article 1: three misses. Draws 00, 01 or 10, 11 give 1, 1/4, 0.
    drawn = resampled_mean_over_runs(sums(([1, 0, 0, 0], [0, 1, 1, 1])))[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(counts / len(drawn), [0.25, 0.5, 0.25], atol=0.04)


def test_queries_that_hit_and_miss_together_count_as_one():
    # 40 articles of 50 queries each, half of them all hits: the error is that of 40 outcomes, not of 2,000.
    found = sums((np.repeat([0, 1], 1000), np.repeat(np.arange(40), 50)))
    low, high = percentile_bounds(resampled_mean_over_runs(found)[:, 0])
    half = 1.96 * math.sqrt(0.25 / 40)
    assert (low, high) == (pytest.approx(0.5 - half, abs=0.03), pytest.approx(0.5 + half, abs=0.03))


def test_a_second_run_halves_the_variance_only_with_other_articles():
    outcomes, articles = np.tile([0, 1], 100), np.arange(200)
    alone, same, others = (
        resampled_mean_over_runs(sums(*runs))[:, 0].var()
        for runs in (
            [(outcomes, articles)],
            [(outcomes, articles), (outcomes, articles)],
            [(outcomes, articles), (outcomes, articles + 200)],
        )
    )
    assert same == pytest.approx(alone, rel=1e-9)
    assert others == pytest.approx(alone / 2, rel=0.15)


def test_a_resample_that_loses_a_run_leaves_no_interval():
    drawn = resampled_mean_over_runs(sums(([1], [0]), ([0], [1])))[:, 0]
    assert all(math.isnan(end) for end in percentile_bounds(drawn))
