"""Intervals where queries come in clusters: the windows of an article overlap, so they hit and miss together.

S runs, Q queries of a run, G articles of all runs, M quantities (one a row and metric), R resamples. One resample draws
G articles with replacement, each with all of its queries in every run (two seeds may hold out the same article). A
run's mean is the ratio of two sums, hits over queries, and the figure is the mean over the runs:

    m* = 1/S sum_s ( sum_g v[g, s] / sum_g n[g, s] ),   v: sum over an article's queries, n: how many it has

All quantities see the same draws, so differences of rows are paired. Source: Davison & Hinkley 1997, Bootstrap Methods
and their Application, section 3.8 (whole clusters are drawn, nothing within them).

Not covered: what yet another training would change. Only the runs' own values, side by side, show that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluation.statistics.significance import NUM_RESAMPLES, Float64, resampled_means


def article_sums(values: Sequence[Float64], articles: Sequence[npt.NDArray[np.integer]]) -> Float64:
    """Sum each run's values (Q, M) by article (Q,): (G, S, M + 1), the last column counts the queries."""
    known = np.unique(np.concatenate(articles))
    sums = np.zeros((len(known), len(values), values[0].shape[1] + 1))
    for run, (of_run, article) in enumerate(zip(values, articles, strict=True)):
        counted = np.column_stack([of_run, np.ones(len(of_run))])
        np.add.at(sums[:, run], np.searchsorted(known, article), counted)
    return sums


def run_means(sums: Float64) -> Float64:
    """Each run's means over its queries, (S, M)."""
    return _ratios(sums.sum(axis=0))


def resampled_mean_over_runs(sums: Float64, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Float64:
    """Mean over the runs under R resamples of the articles: (R, M); NaN where a run lost all of its articles."""
    drawn = resampled_means(sums.reshape(len(sums), -1), num_resamples, seed)
    with np.errstate(invalid="ignore"):
        mean: Float64 = _ratios(drawn.reshape(num_resamples, *sums.shape[1:])).mean(axis=1)
    return mean


def _ratios(sums: Float64) -> Float64:
    """Means (..., M) from sums or mean sums (..., M + 1) whose last column counts queries."""
    ratios: Float64 = sums[..., :-1] / sums[..., -1:]
    return ratios
