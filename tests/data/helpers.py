"""What the tests of this folder share."""

from collections.abc import Callable

import numpy as np

from data.payload import Payload

MakePayload = Callable[..., Payload]


def unit_rows(num: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return random rows of norm 1, (num, dim) float32."""
    rows = np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
