"""What is known of each query, and each row's outcome on it. Every figure is a mean of these, or a ratio of means.

Q queries. A metric's prefix chooses the queries or the way of counting: `novel.r@5` is R@5 over novel queries alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evaluation.measures.metrics import (
    COPIED,
    EXCLUDE_CONTEXT,
    NOVEL,
    RETRIEVAL_METRICS,
    efficiency,
    per_query,
    split_prefix,
)

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

COMPARED_METRICS = (*(NOVEL + name for name in RETRIEVAL_METRICS), *RETRIEVAL_METRICS)
EFFICIENCY = "eff@5"  # the one metric that is a ratio of two means
EFFICIENCY_OF = ("r@5", "contain@50")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One row's outcome on every query; all arrays are in the order of the queries."""

    ranks: Int32  # (Q,), 0 = not found
    ranks_pool: Int32  # (Q,)
    cosine: npt.NDArray[np.floating]  # (Q,), NaN for a row without predictions
    ranks_exclude_context: Int32 | None = None  # (Q,)
    ranks_pool_exclude_context: Int32 | None = None  # (Q,)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Outcomes:
        """Take them from what an evaluation returns, or from what `evaluation.results` loads."""
        return cls(
            arrays["ranks"],
            arrays["ranks_pool"],
            arrays["cosine"],
            arrays.get("ranks_exclude_context"),
            arrays.get("ranks_pool_exclude_context"),
        )

    def __len__(self) -> int:
        """Q."""
        return len(self.ranks)

    def take(self, chosen: Bool) -> Outcomes:
        """Return the outcomes of some of the queries, chosen by a mask (Q,)."""
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Outcomes.of({name: array[chosen] for name, array in arrays.items() if array is not None})

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that follow from these arrays."""
        without = () if self.ranks_exclude_context is None else RETRIEVAL_METRICS
        excluding = (EXCLUDE_CONTEXT + name for name in without if name != "cosine")
        return (*COMPARED_METRICS, COPIED + "r@5", *excluding)

    def values(self, name: str) -> Float64:
        """Return (Q,) values whose mean over the queries that the prefix chooses is the metric."""
        prefix, bare = split_prefix(name)
        ranks, pool = self.ranks, self.ranks_pool
        if prefix == EXCLUDE_CONTEXT:
            assert self.ranks_exclude_context is not None and self.ranks_pool_exclude_context is not None, name
            ranks, pool = self.ranks_exclude_context, self.ranks_pool_exclude_context
        return per_query(bare, ranks, pool, self.cosine)


@dataclass(frozen=True, slots=True)
class Queries:
    """What is known of the queries themselves."""

    article: Int32 | None  # (Q,); None: not known, then each query is taken as independent
    novel: Bool  # (Q,)

    @classmethod
    def independent(cls, num_queries: int) -> Queries:
        """Return queries of which nothing is known: each is its own unit and counts as novel."""
        return cls(None, np.ones(num_queries, dtype=bool))

    def __len__(self) -> int:
        """Q."""
        return len(self.novel)

    @property
    def unit(self) -> Literal["article", "query"]:
        """What is taken as independent."""
        return "query" if self.article is None else "article"

    @property
    def units(self) -> Int32:
        """(Q,) number of the independent unit that each query belongs to."""
        return np.arange(len(self), dtype=np.int32) if self.article is None else self.article

    def chosen(self, prefix: str) -> Bool:
        """Return a mask (Q,) of the queries that a metric with this prefix is about."""
        everything = np.ones(len(self), dtype=bool)
        return {NOVEL: self.novel, COPIED: ~self.novel}.get(prefix, everything)

    def num_units(self, prefix: str = "") -> int:
        """Return how many articles (queries, where none are known) a metric with this prefix rests on."""
        return len(np.unique(self.units[self.chosen(prefix)]))


def mean(name: str, outcomes: Outcomes, queries: Queries) -> float:
    """Return one metric of one row; NaN without a query that it is about."""
    prefix, bare = split_prefix(name)
    if bare == EFFICIENCY:
        return efficiency(*(mean(prefix + part, outcomes, queries) for part in EFFICIENCY_OF))
    chosen = queries.chosen(prefix)
    return float(outcomes.values(name)[chosen].mean()) if chosen.any() else float("nan")
