"""Intervals of metrics by the paired bootstrap over queries, and tests of pairs of variants.

Q queries, R resamples, M quantities. One resample draws Q queries with replacement; every variant and every metric
sees the same draws (paired), so a ratio such as Eff@5 and a difference between variants are resampled jointly
(Sakai 2006, "Evaluating evaluation metrics based on the bootstrap", SIGIR).

For R@k, a 0/1 outcome per query, McNemar's exact test decides; Holm's step-down keeps the chance of any false alarm
in the family of all compared pairs at 5 %. Two variants that the test cannot separate are tied, not ranked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from data.errors import UserError
from evaluation.measures.metrics import RETRIEVAL_METRICS, efficiency, per_query

Float64 = npt.NDArray[np.float64]
Interval = tuple[float, float]

NUM_RESAMPLES = 2_000
CONFIDENCE = 0.95
ALPHA = 1.0 - CONFIDENCE
POWER = 0.80
DECISION_METRIC = "r@5"
TESTED_METRICS = ("r@1", "r@5", "r@10")  # 0/1 outcomes, one family of pairs each
_DRAWS_AT_ONCE = 2_000_000  # in 64 bits: blocks of 16 MB


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Per-query outcomes of one variant; the three arrays are in the order of the query set."""

    ranks: npt.NDArray[np.int32]  # (Q,)
    ranks_pool: npt.NDArray[np.int32]  # (Q,)
    cosine: npt.NDArray[np.floating]  # (Q,)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Outcomes":
        """From what an evaluation returns (or `evaluation.store` loads)."""
        return cls(arrays["ranks"], arrays["ranks_pool"], arrays["cosine"])

    def mean(self, name: str) -> float:
        """The metric itself."""
        if name == "eff@5":
            return efficiency(self.mean("r@5"), self.mean("contain@50"))
        return float(self.values(name).mean()) if len(self.ranks) else float("nan")

    def values(self, name: str) -> Float64:
        """(Q,) values whose mean is the metric."""
        return per_query(name, self.ranks, self.ranks_pool, self.cosine)


def resampled_means(values: Float64, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Float64:
    """Means of (Q, M) values under R resamples of the queries: (R, M).

    The draws depend on Q, R and the seed only, so calls for several variants are paired with each other.
    """
    num_queries = len(values)
    counts = _drawn_counts(num_queries, num_resamples, seed)  # (R, Q)
    block = max(1, _DRAWS_AT_ONCE // max(num_queries, 1))
    means = np.empty((num_resamples, values.shape[1]))
    for start in range(0, num_resamples, block):
        means[start : start + block] = counts[start : start + block].astype(np.float64) @ values / num_queries
    return means


@lru_cache(maxsize=2)
def _drawn_counts(num_queries: int, num_resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    """How often each of Q queries is drawn in each of R resamples: (R, Q). Kept, since all variants share it."""
    rng = np.random.default_rng(seed)
    counts = np.empty((num_resamples, num_queries), dtype=np.uint16)
    block = max(1, _DRAWS_AT_ONCE // max(num_queries, 1))
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(num_queries, size=(size, num_queries))
        drawn += np.arange(size)[:, None] * num_queries
        counts[start : start + size] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(size, num_queries)
    return counts


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


@dataclass(frozen=True, slots=True)
class Difference:
    """How one metric differs between two variants, a minus b."""

    difference: float
    ci: Interval
    minimum_detectable: float  # the smallest true difference that these queries reveal with power 80 %
    p: float | None = None  # McNemar's exact p; None where the outcome is not 0/1
    p_holm: float | None = None
    only_a: int | None = None  # queries that a answers and b does not
    only_b: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two variants on the same queries."""

    a: str
    b: str
    n_queries: int
    metrics: Mapping[str, Difference]

    @property
    def better(self) -> str | None:
        """The variant that is better on the decision metric after Holm's correction; None: tied."""
        decision = self.metrics[DECISION_METRIC]
        if decision.p_holm is None or not decision.p_holm < ALPHA:
            return None
        return self.a if decision.difference > 0 else self.b

    def to_dict(self) -> dict[str, Any]:
        """Plain values for results.json."""
        metrics = {
            name: {field: getattr(found, field) for field in Difference.__dataclass_fields__}
            for name, found in self.metrics.items()
        }
        return {"a": self.a, "b": self.b, "n_queries": self.n_queries, "better": self.better, "metrics": metrics}


def mcnemar(hits_a: npt.NDArray[np.bool_], hits_b: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Queries that only a hits, that only b hits, and McNemar's exact two-sided p (a binomial test of the two).

    Source: McNemar 1947; exact form as in Fleiss, Statistical Methods for Rates and Proportions, section 13.1.
    """
    only_a, only_b = int((hits_a & ~hits_b).sum()), int((hits_b & ~hits_a).sum())
    if only_a + only_b == 0:
        return only_a, only_b, 1.0
    return only_a, only_b, float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm's step-down procedure (Holm 1979): compare them with 0.05 directly."""
    order = np.argsort(p_values, kind="stable")
    remaining = len(p_values) - np.arange(len(p_values))
    stepped = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * remaining))
    adjusted = np.empty(len(p_values))
    adjusted[order] = stepped
    return [float(p) for p in adjusted]


def minimum_detectable(resampled_difference: Float64) -> float:
    """Smallest true difference that a two-sided 5 % test reveals with power 80 %: (1.96 + 0.84) standard errors."""
    standard_error = float(resampled_difference.std(ddof=1)) if len(resampled_difference) > 1 else float("nan")
    return float(norm.ppf(1.0 - ALPHA / 2.0) + norm.ppf(POWER)) * standard_error


def compare_all(
    outcomes: Mapping[str, Outcomes],
    names: tuple[str, ...] = RETRIEVAL_METRICS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Pair]:
    """Compare every two variants on the same queries; Holm's family is all pairs, per tested metric."""
    if not outcomes:
        return []
    if len({len(one.ranks) for one in outcomes.values()}) > 1:
        sizes = ", ".join(f"{name} {len(one.ranks)}" for name, one in outcomes.items())
        raise UserError(f"pairs: expected the same queries for all variants, got {sizes}; evaluate them on one set")
    resampled = {name: resampled_metrics(one, names, num_resamples, seed) for name, one in outcomes.items()}
    compared = list(combinations(outcomes, 2))
    tests = {name: [_mcnemar_of(outcomes[a], outcomes[b], name) for a, b in compared] for name in TESTED_METRICS}
    adjusted = {name: holm([p for _, _, p in found]) for name, found in tests.items()}
    pairs = []
    for place, (a, b) in enumerate(compared):
        differences = {}
        for name in names:
            test = (*tests[name][place], adjusted[name][place]) if name in tests else None
            differences[name] = _difference(
                outcomes[a], outcomes[b], resampled[a][name] - resampled[b][name], name, test
            )
        pairs.append(Pair(a, b, len(outcomes[a].ranks), differences))
    return pairs


def _mcnemar_of(a: Outcomes, b: Outcomes, name: str) -> tuple[int, int, float]:
    return mcnemar(a.values(name) > 0, b.values(name) > 0)


def _difference(
    a: Outcomes, b: Outcomes, resampled: Float64, name: str, test: tuple[int, int, float, float] | None
) -> Difference:
    only_a, only_b, p, p_holm = test or (None, None, None, None)
    observed = a.mean(name) - b.mean(name)
    bounds = percentile_bounds(resampled)
    return Difference(observed, bounds, minimum_detectable(resampled), p, p_holm, only_a, only_b)


def tie_groups(ordered: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """Number groups of tied variants from 1: the first of `ordered` (best R@5 first) takes with it all that it cannot
    be told from, then the next remaining one does. Ties are not transitive, so a group is read from its first member.
    """
    separated = {frozenset((pair.a, pair.b)) for pair in pairs if pair.better is not None}
    groups: dict[str, int] = {}
    number = 0
    for leader in ordered:
        if leader in groups:
            continue
        number += 1
        for other in ordered:
            if other not in groups and frozenset((leader, other)) not in separated:
                groups[other] = number
    return groups
