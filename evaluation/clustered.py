"""Intervals where queries come in clusters: the windows of an article overlap, so they hit and miss together.

S runs, Q queries and G articles of a run, M quantities (one a row and metric), R resamples. One resample draws, in each
run apart, G of its articles with replacement and takes all of their queries; a run's mean is the ratio of two sums,
hits over queries, and the figure is the mean over the runs:

    m* = 1/S sum_s ( sum_g v[s, g] / sum_g n[s, g] ),   v: sum over an article's queries, n: how many it has

All quantities see the same draws, so differences of rows are paired. Source: Davison & Hinkley 1997, Bootstrap Methods
and their Application, sections 3.2 (several samples) and 3.8 (whole clusters are drawn, nothing within them).

Not covered: what another training on the same articles would change, beyond what the runs themselves show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluation.significance import NUM_RESAMPLES, Float64, resampled_means


def cluster_sums(values: Float64, clusters: npt.NDArray[np.integer]) -> Float64:
    """Sums of (Q, M) values by cluster (Q,), and as the last column the number of queries: (G, M + 1)."""
    _, member, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, member, values)
    return np.column_stack([sums, sizes])


def run_means(samples: Sequence[Float64]) -> Float64:
    """Each run's means, (S, M), from the runs' cluster sums (G, M + 1)."""
    return np.stack([_ratios(sample.sum(axis=0)) for sample in samples])


def resampled_mean_over_runs(samples: Sequence[Float64], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Float64:
    """Mean over the runs under R resamples of each run's clusters: (R, M); every run has draws of its own."""
    drawn = [_ratios(resampled_means(sample, num_resamples, seed + place)) for place, sample in enumerate(samples)]
    mean: Float64 = np.mean(drawn, axis=0)
    return mean


def _ratios(sums: Float64) -> Float64:
    """Means of the queries (..., M) from (..., M + 1) sums (or mean sums) whose last column counts queries."""
    ratios: Float64 = sums[..., :-1] / sums[..., -1:]
    return ratios
