"""Intervals of metrics by the paired bootstrap over queries.

Q queries, R resamples, M quantities. One resample draws Q queries with replacement; every variant and every metric
sees the same draws (paired), so a ratio such as Eff@5 and a difference between variants are resampled jointly
(Sakai 2006, "Evaluating evaluation metrics based on the bootstrap", SIGIR).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.metrics import RETRIEVAL_METRICS, per_query

Float64 = npt.NDArray[np.float64]
Interval = tuple[float, float]

NUM_RESAMPLES = 2_000
CONFIDENCE = 0.95
_COUNTS_IN_MEMORY = 4_000_000  # entries of a block of resample counts: 16 MB


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Per-query outcomes of one variant; the three arrays are in the order of the query set."""

    ranks: npt.NDArray[np.int32]  # (Q,)
    ranks_pool: npt.NDArray[np.int32]  # (Q,)
    cosine: npt.NDArray[np.floating]  # (Q,)

    def values(self, name: str) -> Float64:
        """(Q,) values whose mean is the metric."""
        return per_query(name, self.ranks, self.ranks_pool, self.cosine)


def resampled_means(values: Float64, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Float64:
    """Means of (Q, M) values under R resamples of the queries: (R, M).

    The draws depend on Q, R and the seed only, so calls for several variants are paired with each other.
    """
    num_queries = len(values)
    rng = np.random.default_rng(seed)
    block = max(1, _COUNTS_IN_MEMORY // max(num_queries, 1))
    means = np.empty((num_resamples, values.shape[1]))
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(num_queries, size=(size, num_queries))
        drawn += np.arange(size)[:, None] * num_queries
        counts = np.bincount(drawn.ravel(), minlength=size * num_queries).reshape(size, num_queries)  # (r, Q)
        means[start : start + size] = counts @ values / num_queries
    return means


def resampled_metrics(
    outcomes: Outcomes, names: tuple[str, ...] = RETRIEVAL_METRICS, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Float64]:
    """Every metric under the same R resamples: name -> (R,). Eff@5 is the ratio within each resample."""
    means_of = [name for name in names if name != "eff@5"]
    needed = list(dict.fromkeys([*means_of, *(("r@5", "contain@50") if "eff@5" in names else ())]))
    values = np.column_stack([outcomes.values(name) for name in needed])  # (Q, M)
    columns = dict(zip(needed, resampled_means(values, num_resamples, seed).T, strict=True))
    if "eff@5" in names:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = columns["r@5"] / columns["contain@50"]
        columns["eff@5"] = np.where(columns["contain@50"] > 0, ratio, np.nan)
    return {name: columns[name] for name in names}


def percentile_bounds(resamples: Float64, confidence: float = CONFIDENCE) -> Interval:
    """The central interval of resampled values; (NaN, NaN) when any of them is undefined."""
    if len(resamples) == 0 or np.isnan(resamples).any():
        return (float("nan"), float("nan"))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resamples, [tail, 1.0 - tail])
    return (float(low), float(high))


def intervals(
    outcomes: Outcomes, names: tuple[str, ...] = RETRIEVAL_METRICS, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """95 % percentile-bootstrap interval of each metric; (NaN, NaN) without queries."""
    if len(outcomes.ranks) == 0:
        return dict.fromkeys(names, (float("nan"), float("nan")))
    resampled = resampled_metrics(outcomes, names, num_resamples, seed)
    return {name: percentile_bounds(resampled[name]) for name in names}
