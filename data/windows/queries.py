"""Which windows are asked: smoke queries from the validation articles, final queries from the test articles."""

from __future__ import annotations

from data.seeding import derive_seed
from data.windows.table import Splits, WindowTable, sample_queries


def smoke_queries(splits: Splits, num: int, seed: int) -> WindowTable:
    """Return the fixed smoke sample: from validation articles, so that pruning sees nothing of the final test."""
    return sample_queries(splits.val, num, derive_seed(seed, "smoke"))


def final_queries(splits: Splits, num: int | None, seed: int) -> WindowTable:
    """Return the final queries: `num` test windows, or all of them for None."""
    return sample_queries(splits.test, num, derive_seed(seed, "final"))


def validation_queries(splits: Splits, num: int, seed: int) -> WindowTable:
    """Return the fixed validation sample, the same for every variant."""
    return sample_queries(splits.val, num, seed)
