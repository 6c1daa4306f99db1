"""Hard negatives: other rows of the window's article, the easiest ones to confuse with its target. Torch-free.

They are drawn anew for each batch and gathered with its windows. The loss takes them as the last columns of its vectors
and ids; `LossConfig.article_negatives` says how many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError


class ArticleNegatives:
    """Draws rows from the articles of windows. The payload's rows must be sorted by article, as payload files are."""

    def __init__(self, article_index: NDArray[np.int32], num: int) -> None:
        """Take the article of each payload row (N,), ascending, and the number of draws a window."""
        if np.any(np.diff(article_index) < 0):
            raise UserError(
                "article_index: expected rows sorted by article, got a later row of an earlier article; "
                "write the payload with write_payload, which sorts"
            )
        self.num = num
        self._start = np.searchsorted(article_index, article_index, side="left")  # (N,) first row of a row's article
        self._size = np.searchsorted(article_index, article_index, side="right") - self._start

    def draw(self, rows: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
        """Return (B, num) rows for windows of consecutive rows (B, L+1): uniform over the article outside the window.

        An article that is no longer than the window has no such row. Then the target itself is returned, and the loss
        ignores it, since it has the target's id.
        """
        width = rows.shape[1]
        first, last = rows[:, :1].astype(np.int64), rows[:, -1:]
        others = self._size[first] - width  # (B, 1)
        drawn = self._start[first] + np.floor(rng.random((len(rows), self.num)) * others).astype(np.int64)
        drawn += width * (drawn >= first)  # step over the window
        return np.where(others > 0, drawn, last).astype(np.int32)
