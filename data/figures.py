"""Figures over rows: cosine, mean, percentile. NaN where there is nothing to look at, so that no check passes on it."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_NUMBERS = 4 << 20


def paired_cosine(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine of each pair of vectors: (..., D) and (..., D) -> (...); NaN for a row of zeros or NaN."""
    left, right = first.reshape(-1, first.shape[-1]), second.reshape(-1, second.shape[-1])
    result = np.empty(len(left), np.float64)
    step = max(1, _BLOCK_NUMBERS // max(1, left.shape[1]))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        a, b = np.asarray(left[part], np.float64), np.asarray(right[part], np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            result[part] = np.einsum("md,md->m", a, b) / norms
    return result.reshape(first.shape[:-1])


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values that are numbers, for what is judged apart from damaged rows."""
    found: NDArray[Any] = values[np.isfinite(values)]
    return found


def mean(values: NDArray[Any]) -> float:
    """Return the mean, of a mask the share; NaN of nothing."""
    return float(values.mean()) if len(values) else math.nan


def percentile(values: NDArray[Any], percent: float) -> float:
    """Return a percentile; NaN of nothing, or when a value is NaN."""
    return float(np.percentile(values, percent)) if len(values) else math.nan
