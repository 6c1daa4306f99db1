"""What the tests of this folder share."""

from collections.abc import Callable

import numpy as np

from data.payload.store import Payload

MakePayload = Callable[..., Payload]


def unit_rows(num: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return random rows of norm 1, (num, dim) float32."""
    rows = np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def drifting_rows(sizes: list[int], dim: int, seed: int = 0) -> np.ndarray:
    """Return unit rows of articles whose topic drifts, so that a chunk is nearest to its neighbours, like in text."""
    noise = unit_rows(sum(sizes), dim, seed)
    rows = noise.copy()
    starts = np.cumsum([0, *sizes[:-1]])
    for row in range(1, len(rows)):
        if row not in starts:
            rows[row] = 0.7 * rows[row - 1] + 0.7 * noise[row]
            rows[row] /= np.linalg.norm(rows[row])
    return rows
