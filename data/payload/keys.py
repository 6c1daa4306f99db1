"""Truth keys: (article_index, chunk_index) names a chunk, and finds its row in the payload."""

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class KeyIndex:
    """Finds the payload row of a truth key; (N,) sorted keys, one binary search a query."""

    def __init__(self, article_index: Int32, chunk_index: Int32) -> None:
        keys = combine(article_index, chunk_index)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def rows(self, article_index: Int32, chunk_index: Int32) -> Int64:
        """Return the row of each key, shape (M,) int64; -1 where the payload has no such key."""
        keys = combine(article_index, chunk_index)
        if not len(self._sorted):
            return np.full(len(keys), -1, np.int64)
        slots = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[slots] == keys, self._order[slots], -1).astype(np.int64)


def combine(article_index: Int32, chunk_index: Int32) -> Int64:
    """Pack each key into one int64 that sorts like (article_index, chunk_index); both must be non-negative int32."""
    return (article_index.astype(np.int64) << 32) | chunk_index.astype(np.int64)
