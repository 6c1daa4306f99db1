"""Sums by article: from them follow all figures, their resamples, their label swaps and their standard errors.

G articles of all runs, S runs of the same rows (one, one a split, or one a training seed), V rows, P sums a row, M
metrics. A metric is the mean over the runs of the ratio of two sums, hits over queries; Eff@5 is a ratio of two such:

    m = 1/S sum_s ( sum_g v[g, s] / sum_g n[g, s] ),   v: sum over an article's queries, n: how many it has

Source of the cluster form: Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import UserError
from evaluation.measures.metrics import split_prefix
from evaluation.statistics.outcomes import EFFICIENCY, EFFICIENCY_OF, Float64, Int32, Outcomes, Queries


@dataclass(frozen=True, slots=True)
class ArticleSums:
    """What the queries of each article add up to."""

    rows: tuple[str, ...]  # V
    names: tuple[str, ...]  # M metrics
    parts: tuple[str, ...]  # P: the metrics that are plain means, with what Eff@5 is the ratio of
    values: Float64  # (G, S, V, P)
    counts: Float64  # (G, S, 1, P) how many queries
    seeds: tuple[int, ...]  # (V,) of how many training seeds each row is the mean; 1 where S are splits

    def figures(self, values: Float64, counts: Float64) -> Float64:
        """Return every metric from totals (..., S, V, P) and (..., S, 1, P): (..., S, V, M), NaN for 0 / 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            means = values / counts
            columns = [self._figure(means, name) for name in self.names]
        return np.stack(columns, axis=-1)

    def _figure(self, means: Float64, name: str) -> Float64:
        columns = [means[..., place] for place in self.places(name)]
        if len(columns) == 1:
            return columns[0]
        top, bottom = columns
        return np.where(bottom > 0, top / bottom, np.nan)

    def places(self, name: str) -> list[int]:
        """Where among the P the sums of a metric stand: one place, two for Eff@5."""
        return [self.parts.index(part) for part in _parts(name)]

    def only(self, name: str) -> ArticleSums:
        """Return the sums of one metric."""
        places = self.places(name)
        values, counts = self.values[..., places], self.counts[..., places]
        return ArticleSums(self.rows, (name,), _parts(name), values, counts, self.seeds)

    @property
    def by_run(self) -> Float64:
        """Every metric of every run: (S, V, M)."""
        return self.figures(self.values.sum(axis=0), self.counts.sum(axis=0))

    @property
    def num_effective(self) -> list[float]:
        """How many articles of one size would be worth as much as these, for each of the M metrics.

        (sum n)^2 / sum n^2: G where all have as many queries, fewer where a few articles have most of them. Source:
        Carter, Schnepel & Steigerwald 2017, "Asymptotic Behavior of a t-Test Robust to Cluster Heterogeneity".
        """
        queries = self.counts.sum(axis=(1, 2))  # (G, P)
        with np.errstate(invalid="ignore"):
            effective = queries.sum(axis=0) ** 2 / (queries**2).sum(axis=0)
        return [float(effective[self.places(name)[0]]) for name in self.names]

    def influences(self) -> Float64:
        """Return how much each article moves each figure, to first order: (G, V, M).

        The standard error of a figure, or of a difference of rows, is sqrt(G/(G-1) sum_g influence^2). Source:
        Davison & Hinkley 1997, Bootstrap Methods and their Application, section 2.7 (delta method).
        """
        totals, queries = self.values.sum(axis=0), self.counts.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = totals / queries
            moved = (self.values - means * self.counts) / queries  # (G, S, V, P)
            columns = [self._influence(means, moved, name) for name in self.names]
        influences: Float64 = np.stack(columns, axis=-1).mean(axis=1)
        return influences

    def seed_influences(self) -> Float64:
        """Return how much each training seed moves each figure: (S, V, M).

        The variance of a figure, or of a difference of rows, over trainings is sum_s influence^2: that of a mean of n
        values, s^2 / n. It is 0 for a row that is not trained, and unknown, 0 here, for one of a single seed.
        """
        figures, num = self.by_run, np.asarray(self.seeds)
        scale = np.zeros(len(num))
        # A row of fewer seeds than others stands at its own mean in the places that are not its own.
        np.divide(1.0, np.sqrt(num * (num - 1.0)), out=scale, where=num > 1)
        influences: Float64 = (figures - figures.mean(axis=0)) * scale[:, None]
        return influences

    def _influence(self, means: Float64, moved: Float64, name: str) -> Float64:
        places = self.places(name)
        if len(places) == 1:
            return moved[..., places[0]]
        top, bottom = places
        ratio = means[..., top] / means[..., bottom]
        moves: Float64 = (moved[..., top] - ratio * moved[..., bottom]) / means[..., bottom]
        return moves


def _parts(name: str) -> tuple[str, ...]:
    prefix, bare = split_prefix(name)
    return tuple(prefix + part for part in EFFICIENCY_OF) if bare == EFFICIENCY else (name,)


def sum_by_article(runs: Sequence[tuple[Mapping[str, Outcomes], Queries]], names: Sequence[str]) -> ArticleSums:
    """Add up the values of each article's queries, for every run, row and metric; all runs have the same rows.

    A run with rows of several training seeds counts as several runs, one a seed.

    Raises:
        UserError: a row's outcomes are not as many as the queries.
    """
    parts = tuple(dict.fromkeys(part for name in names for part in _parts(name)))
    rows = tuple(runs[0][0])
    known = np.unique(np.concatenate([queries.units for _, queries in runs]))
    summed = [_sum_run(outcomes, queries, known, parts) for outcomes, queries in runs]
    values, counts = (np.concatenate(arrays, axis=1) for arrays in zip(*summed, strict=True))
    seeds = tuple(one.num_seeds if len(runs) == 1 else 1 for one in runs[0][0].values())
    return ArticleSums(rows, tuple(names), parts, values, counts, seeds)


def _sum_run(
    outcomes: Mapping[str, Outcomes], queries: Queries, known: Int32, parts: Sequence[str]
) -> tuple[Float64, Float64]:
    """Return values (G, seeds, V, P) and counts (G, seeds, 1, P) of one run; G articles are `known`."""
    _check_same_queries(outcomes, queries)
    num_seeds = max(one.num_seeds for one in outcomes.values())
    values = np.empty((len(known), num_seeds, len(outcomes), len(parts)))
    counts = np.empty((len(known), num_seeds, 1, len(parts)))
    place = np.searchsorted(known, queries.units)
    for part, name in enumerate(parts):
        chosen = queries.chosen(split_prefix(name)[0])
        where = place[chosen]
        counts[:, :, 0, part] = np.bincount(where, minlength=len(known))[:, None]
        for row, one in enumerate(outcomes.values()):
            taken = one.values(name)[:, chosen]
            sums = np.stack([np.bincount(where, weights=seed, minlength=len(known)) for seed in taken], axis=1)
            values[:, : one.num_seeds, row, part] = sums
            values[:, one.num_seeds :, row, part] = sums.mean(axis=1, keepdims=True)
    return values, counts


def _check_same_queries(outcomes: Mapping[str, Outcomes], queries: Queries) -> None:
    if any(len(one) != len(queries) for one in outcomes.values()):
        sizes = ", ".join(f"{name} {len(one)}" for name, one in outcomes.items())
        raise UserError(f"rows: expected outcomes of the same {len(queries)} queries, got {sizes}; evaluate them again")
