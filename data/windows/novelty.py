"""How new a target is: its largest cosine with any chunk that stands in a training window.

A target that is nearly a copy of a training chunk can be answered from memory, so it says little about prediction.

Letters: Q queries, N payload rows, D vector dimension, W training windows, L context length.
"""

import numpy as np
from numpy.typing import NDArray

from data.payload.keys import Int32
from data.payload.store import Vectors

NOVEL_BELOW = 0.9
"""A target is novel when no training chunk has this cosine with it."""

_TRAIN_ROWS = 4_096  # of a block: 12 MiB in float32 at D = 768
_QUERIES = 1_024  # with those, a block of scores has 16 MiB and stays in the last cache


def distinct_rows(windows: Int32, num_rows: int) -> NDArray[np.intp]:
    """Return the payload rows that stand in any of these windows (W, L + 1), rising, each once."""
    stands = np.zeros(num_rows, bool)
    stands[windows] = True
    return np.flatnonzero(stands)


def max_train_cosine(vectors: Vectors, targets: Int32, train_rows: Int32) -> NDArray[np.float32]:
    """Return for each target the largest cosine with a chunk of any training window, exactly.

    The target's own row counts where it stands in a training window. Vectors are read block by block, so a memory map
    larger than memory will do; at 584,545 x 768 and 5,244 targets this is 4.7 TFLOP.

    Args:
        vectors: (N, D) unit rows, float32 or float16.
        targets: (Q,) rows of the targets.
        train_rows: (W, L + 1) rows of the training windows, context and target alike.

    Returns:
        (Q,) float32; -inf where there is no training window.
    """
    rows = distinct_rows(train_rows, len(vectors))
    queries = np.asarray(vectors[targets], np.float32)  # (Q, D)
    largest = np.full(len(targets), -np.inf, np.float32)
    for first in range(0, len(rows), _TRAIN_ROWS):
        block = np.asarray(vectors[rows[first : first + _TRAIN_ROWS]], np.float32).T  # (D, n)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            np.maximum(largest[part], (queries[part] @ block).max(axis=1), out=largest[part])
    return largest
