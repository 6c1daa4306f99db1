"""Why vectors differ from the payload rows that their truth keys name: damage, a wrong order, or another encoding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.figures import mean
from data.payload.keys import Int64
from data.payload.store import Payload

SAME_COSINE = 0.999
"""Vectors with a smaller cosine are not the same row; float16 storage stays above 0.9999."""
SAMPLE_STRAYS = 64
_BLOCK_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class Strays:
    """A sample of vectors that are not the rows they should be."""

    vectors: NDArray[np.float32]
    """(S, D), finite"""
    rows: Int64
    """(S,) the payload rows that their keys name"""

    @classmethod
    def of(cls, vectors: NDArray[Any], rows: Int64, cosine: NDArray[Any]) -> "Strays":
        """Take the first vectors (M, D) whose cosine (M,) with their row is too small."""
        picked = np.flatnonzero(cosine < SAME_COSINE)[:SAMPLE_STRAYS]
        return cls(np.asarray(vectors[picked], np.float32), rows[picked])

    def joined(self, other: "Strays") -> "Strays":
        """Return this sample, filled up from another."""
        room = SAMPLE_STRAYS - len(self.rows)
        return Strays(
            np.concatenate([self.vectors, other.vectors[:room]]), np.concatenate([self.rows, other.rows[:room]])
        )


def hint_for(strays: Strays, payload: Payload, what: str, otherwise: str) -> str:
    """Say what to do about `what` (a plural): what is wrong with its order, or `otherwise` when it is another encoding.

    Vectors that equal other rows of the payload come from the same encoding; their keys are wrong, or their order.
    """
    if not len(strays.rows):
        return otherwise
    nearest, cosine = _nearest(strays.vectors, payload)
    elsewhere = cosine >= SAME_COSINE
    if mean(elsewhere) < 0.5:
        return otherwise
    steps, counts = np.unique((nearest - strays.rows)[elsewhere], return_counts=True)
    step = int(steps[counts.argmax()])
    if counts.max() > len(strays.rows) / 2:
        place = (
            f"{abs(step)} row{'s' * (abs(step) > 1)} {'after' if step > 0 else 'before'} the ones that their keys name"
        )
    else:
        place = "in another order than their keys"
    return f"the {what} are rows of this payload, {place}; write vectors and keys in one order"


def _nearest(vectors: NDArray[np.float32], payload: Payload) -> tuple[Int64, NDArray[np.float64]]:
    """Return the payload row with the largest cosine for each vector, and that cosine, (S,) each."""
    queries = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    best, rows = np.full(len(queries), -np.inf), np.zeros(len(queries), np.int64)
    for start in range(0, payload.num_rows, _BLOCK_ROWS):
        block = np.asarray(payload.vectors[start : start + _BLOCK_ROWS], np.float32)
        norms = np.maximum(np.linalg.norm(block, axis=1), 1e-12)
        scores = np.nan_to_num(queries @ block.T / norms, nan=-np.inf)
        here = scores.argmax(axis=1)
        value = scores[np.arange(len(queries)), here]
        better = value > best
        best[better], rows[better] = value[better], here[better] + start
    return rows, best
