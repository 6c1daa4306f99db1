"""Sums by article: from them follow all figures, their resamples, their label swaps and their standard errors.

G articles of all runs, S runs of the same rows (one, or one a seed), V rows, P sums a row, M metrics. A metric is the
mean over the runs of the ratio of two sums, hits over queries; Eff@5 is a ratio of two such ratios:

    m = 1/S sum_s ( sum_g v[g, s] / sum_g n[g, s] ),   v: sum over an article's queries, n: how many it has

Source of the cluster form: Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import UserError
from evaluation.statistics.outcomes import EFFICIENCY, EFFICIENCY_OF, Float64, Outcomes, Queries, split_prefix


@dataclass(frozen=True, slots=True)
class ArticleSums:
    """What the queries of each article add up to."""

    rows: tuple[str, ...]  # V
    names: tuple[str, ...]  # M metrics
    parts: tuple[str, ...]  # P: the metrics that are plain means, with what Eff@5 is the ratio of
    values: Float64  # (G, S, V, P)
    counts: Float64  # (G, S, 1, P) how many queries

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
        return ArticleSums(self.rows, (name,), _parts(name), self.values[..., places], self.counts[..., places])

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

    Raises:
        UserError: a row's outcomes are not as many as the queries.
    """
    parts = tuple(dict.fromkeys(part for name in names for part in _parts(name)))
    rows = tuple(runs[0][0])
    known = np.unique(np.concatenate([queries.units for _, queries in runs]))
    values = np.empty((len(known), len(runs), len(rows), len(parts)))
    counts = np.empty((len(known), len(runs), 1, len(parts)))
    for run, (outcomes, queries) in enumerate(runs):
        _check_same_queries(outcomes, queries)
        place = np.searchsorted(known, queries.units)
        for part, name in enumerate(parts):
            chosen = queries.chosen(split_prefix(name)[0])
            where = place[chosen]
            counts[:, run, 0, part] = np.bincount(where, minlength=len(known))
            for row, one in enumerate(rows):
                taken = outcomes[one].values(name)[chosen]
                values[:, run, row, part] = np.bincount(where, weights=taken, minlength=len(known))
    return ArticleSums(rows, tuple(names), parts, values, counts)


def _check_same_queries(outcomes: Mapping[str, Outcomes], queries: Queries) -> None:
    if any(len(one) != len(queries) for one in outcomes.values()):
        sizes = ", ".join(f"{name} {len(one)}" for name, one in outcomes.items())
        raise UserError(f"rows: expected outcomes of the same {len(queries)} queries, got {sizes}; evaluate them again")
