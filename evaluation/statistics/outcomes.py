"""What is known of each query, and each row's outcome on it. Every figure is a mean of these, or a ratio of means.

Q queries, S training seeds. A metric's prefix chooses the queries or the way of counting: `novel.r@5` is R@5 over novel
queries alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    own_metrics,
    per_query,
    retrieval_metrics,
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
    """One row's outcome on every query; all arrays are in the order of the queries.

    (Q,) arrays, or (S, Q) where the row was trained under S seeds: its figures are means over them.
    """

    ranks: Int32  # 0 = not found
    ranks_pool: Int32
    cosine: npt.NDArray[np.floating]  # NaN for a row without predictions
    ranks_exclude_context: Int32 | None = None
    ranks_pool_exclude_context: Int32 | None = None

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

    @classmethod
    def stack(cls, seeds: Sequence[Outcomes]) -> Outcomes:
        """Return the outcomes of one row under several seeds: (S, Q) arrays; those of a single seed stay (Q,)."""
        if len(seeds) == 1:
            return seeds[0]
        return cls.of({name: np.stack([one.arrays()[name] for one in seeds]) for name in seeds[0].arrays()})

    def __len__(self) -> int:
        """Q."""
        return int(self.ranks.shape[-1])

    @property
    def num_seeds(self) -> int:
        """S."""
        return 1 if self.ranks.ndim == 1 else len(self.ranks)

    def take(self, chosen: Bool) -> Outcomes:
        """Return the outcomes of some of the queries, chosen by a mask (Q,)."""
        return Outcomes.of({name: array[..., chosen] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name, as `of` takes them."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: array for name, array in named.items() if array is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that follow from these arrays."""
        without = () if self.ranks_exclude_context is None else retrieval_metrics()
        excluding = (EXCLUDE_CONTEXT + name for name in without if name != "cosine")
        own = (prefix + name for prefix in (NOVEL, "") for name in own_metrics())
        return (*COMPARED_METRICS, *own, COPIED + "r@5", *excluding)

    def values(self, name: str) -> Float64:
        """Return (S, Q) values whose mean over the queries that the prefix chooses is the metric of each seed."""
        prefix, bare = split_prefix(name)
        ranks, pool = self.ranks, self.ranks_pool
        if prefix == EXCLUDE_CONTEXT:
            assert self.ranks_exclude_context is not None and self.ranks_pool_exclude_context is not None, name
            ranks, pool = self.ranks_exclude_context, self.ranks_pool_exclude_context
        return np.atleast_2d(per_query(bare, ranks, pool, self.cosine))


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
    """Return one metric of one row, its mean over the seeds; NaN without a query that it is about."""
    return float(by_seed(name, outcomes, queries).mean())


def by_seed(name: str, outcomes: Outcomes, queries: Queries) -> Float64:
    """Return one metric of one row under each of its seeds, (S,)."""
    prefix, bare = split_prefix(name)
    if bare == EFFICIENCY:
        parts = zip(*(by_seed(prefix + part, outcomes, queries) for part in EFFICIENCY_OF), strict=True)
        return np.array([efficiency(*one) for one in parts])
    chosen = queries.chosen(prefix)
    means: Float64 = outcomes.values(name)[:, chosen].mean(axis=1) if chosen.any() else np.full(1, np.nan)
    return means
