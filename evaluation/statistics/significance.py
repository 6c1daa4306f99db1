"""Tests of pairs of rows on the same queries, and the groups of rows that they cannot separate.

The sign flip over articles decides, on every metric. Rows trained under several seeds must also differ by more than
what seeds change: their p is that of Student's t over articles and seeds, where that is the greater one. Holm's
step-down keeps the chance of a false alarm at 5 % for all compared pairs together. Two rows that the test cannot
separate are tied, not ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from evaluation.measures.metrics import DECISION_METRIC, NOVEL
from evaluation.statistics.articles import ArticleSums, sum_by_article
from evaluation.statistics.outcomes import COMPARED_METRICS, Float64, Outcomes, Queries
from evaluation.statistics.resampling import CONFIDENCE, NUM_RESAMPLES, Interval, bootstrap, interval, sign_flip

ALPHA = 1.0 - CONFIDENCE
POWER = 0.80
DETECTABLE_ERRORS = float(ndtri(1.0 - ALPHA / 2.0) + ndtri(POWER))
"""The smallest true difference that a two-sided 5 % test reveals with this power, in standard errors: 2.80."""
FEW_ARTICLES = 30
FEW_QUERIES = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """How one metric differs between two rows, a minus b."""

    difference: float
    ci: Interval  # by the bootstrap over articles (and seeds)
    p: float  # by the sign flip over articles; with several seeds the greater one of it and p_t
    p_holm: float
    minimum_detectable: float  # DETECTABLE_ERRORS of its standard error
    ci_t: Interval  # by Student's t over articles (and seeds), a cross-check of ci
    p_t: float  # and of p


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows on the same queries."""

    a: str
    b: str
    n_queries: int
    n_articles: int | None  # None: no articles are known, and each query counts as independent
    metrics: Mapping[str, Difference]

    def better_on(self, name: str) -> str | None:
        """Return the row that is better beyond chance on a metric, after Holm's correction; None: tied."""
        found = self.metrics[name]
        if not found.p_holm < ALPHA:
            return None
        return self.a if found.difference > 0 else self.b

    @property
    def better(self) -> str | None:
        """The row that is better on the decision metric, where that was compared."""
        return self.better_on(DECISION_METRIC) if DECISION_METRIC in self.metrics else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for results.json."""
        metrics = {name: asdict(found) for name, found in self.metrics.items()}
        sizes = {"n_queries": self.n_queries, "n_articles": self.n_articles}
        return {"a": self.a, "b": self.b, **sizes, "better": self.better, "metrics": metrics}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down procedure (Holm 1979): compare them with 0.05 directly.

    NaN, a test that could not be made, stays NaN and is not counted.
    """
    values = np.asarray(p_values, dtype=float)
    made = int((~np.isnan(values)).sum())
    order = np.argsort(values, kind="stable")  # NaN last
    remaining = np.maximum(made - np.arange(len(values)), 1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * remaining))
    return [float(p) for p in adjusted]


def clustered_errors(sums: ArticleSums, pairs: Sequence[tuple[int, int]]) -> Float64:
    """Return the standard error of each metric's difference, (pairs, M), with articles as clusters.

    Source: Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640, with the factor n / (n - 1) for few articles.
    """
    influences, num = sums.influences(), np.asarray(sums.num_effective)
    squares = np.stack([((influences[:, a] - influences[:, b]) ** 2).sum(axis=0) for a, b in pairs])
    with np.errstate(divide="ignore", invalid="ignore"):
        error: Float64 = np.where(num > 1, np.sqrt(squares * num / (num - 1.0)), np.nan)
    return error


def standard_errors(sums: ArticleSums, pairs: Sequence[tuple[int, int]]) -> tuple[Float64, Float64]:
    """Return the standard error of each metric's difference over articles and training seeds, and its degrees of
    freedom, (pairs, M) each.

    The degrees are those of Welch and Satterthwaite: Satterthwaite 1946, "An approximate distribution of estimates of
    variance components".
    """
    articles, of_articles = clustered_errors(sums, pairs) ** 2, np.asarray(sums.num_effective) - 1.0
    moves = sums.seed_influences()
    seeds = np.stack([((moves[:, a] - moves[:, b]) ** 2).sum(axis=0) for a, b in pairs])
    of_seeds = np.array([max(sums.seeds[a], sums.seeds[b], 2) - 1.0 for a, b in pairs])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = (articles + seeds) ** 2 / (articles**2 / of_articles + seeds**2 / of_seeds)
    error: Float64 = np.sqrt(articles + seeds)
    return error, np.where(seeds > 0, degrees, of_articles)


def by_student_t(difference: float, error: float, degrees: float) -> tuple[Interval, float]:
    """Return interval and two-sided p of a difference."""
    half = stdtrit(degrees, 1.0 - ALPHA / 2.0) * error
    p = 2.0 * stdtr(degrees, -abs(difference) / error) if error > 0 else float("nan")
    return (float(difference - half), float(difference + half)), float(p)


def compare_all(
    outcomes: Mapping[str, Outcomes],
    queries: Queries,
    names: Sequence[str] = COMPARED_METRICS,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Pair]:
    """Compare rows on the same queries: every two of them, or the pairs that are named.

    Holm's family is all of these pairs, for each metric.

    Raises:
        UserError: a row's outcomes are not as many as the queries.
    """
    compared = list(combinations(outcomes, 2)) if pairs is None else list(pairs)
    if not compared:
        return []
    sums = sum_by_article([(outcomes, queries)], names)
    places = [(sums.rows.index(a), sums.rows.index(b)) for a, b in compared]
    figures, drawn, num = sums.by_run.mean(axis=0), bootstrap(sums, num_resamples, seed), sums.num_effective
    errors, degrees = standard_errors(sums, places)
    by_t = [
        [by_student_t(*one) for one in zip(figures[a] - figures[b], errors[pair], degrees[pair], strict=True)]
        for pair, (a, b) in enumerate(places)
    ]
    p = sign_flip(sums, places, seed=seed)  # (pairs, M)
    for pair, (a, b) in enumerate(places):
        if max(sums.seeds[a], sums.seeds[b]) > 1:
            p[pair] = np.where(np.isnan(p[pair]), np.nan, np.fmax(p[pair], [p_t for _, p_t in by_t[pair]]))
    adjusted = np.column_stack([holm(column) for column in p.T])
    detectable = DETECTABLE_ERRORS * errors
    num_articles = None if queries.article is None else queries.num_units()
    found = []
    for pair, (a, b) in enumerate(places):
        difference, resampled = figures[a] - figures[b], drawn[:, a] - drawn[:, b]
        metrics = {
            name: Difference(
                difference=float(difference[metric]),
                ci=interval(resampled[:, metric], num[metric]),
                p=float(p[pair, metric]),
                p_holm=float(adjusted[pair, metric]),
                minimum_detectable=float(detectable[pair, metric]),
                ci_t=by_t[pair][metric][0],
                p_t=by_t[pair][metric][1],
            )
            for metric, name in enumerate(names)
        }
        found.append(Pair(*compared[pair], len(queries), num_articles, metrics))
    return found


def tie_groups(ordered: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """Number groups of tied rows from 1: the first of `ordered` (best first) takes with it all that it cannot be told
    from, then the next remaining one does. Ties are not transitive, so a group is read from its first member.
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


def sample_warnings(queries: Queries) -> list[str]:
    """Return a sentence for every reason why figures on these queries say little, or less than they seem to."""
    warnings = []
    num_novel, num_articles = int(queries.novel.sum()), queries.num_units(NOVEL)
    if num_novel < FEW_QUERIES:
        warnings.append(
            f"{num_novel} novel queries, fewer than {FEW_QUERIES}: differences of several points are chance."
        )
    if queries.article is None:
        warnings.append("No articles are known: each query counts as independent, so intervals may be too narrow.")
    elif num_articles < FEW_ARTICLES:
        warnings.append(f"{num_articles} articles with novel queries, fewer than {FEW_ARTICLES}: intervals are rough.")
    return warnings
