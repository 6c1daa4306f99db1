"""Predictions that need no training: what any model must beat.

Q queries, L context chunks (oldest first), D vector dimension. Every baseline maps (Q, L, D) to (Q, D) of norm 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def last_vector(context: Vectors) -> Vectors:
    """Repeat the last chunk: the next one is assumed to say the same."""
    return np.ascontiguousarray(context[:, -1], dtype=np.float32)  # (Q, D)


def context_mean(context: Vectors) -> Vectors:
    """The normalised mean of the context; where the mean vanishes, the last chunk."""
    mean = context.astype(np.float32).mean(axis=1)  # (Q, D)
    norm = np.linalg.norm(mean, axis=1, keepdims=True)  # (Q, 1)
    vanishes = norm < 1e-6  # opposite chunks: no direction is left to normalise
    return np.where(vanishes, context[:, -1], mean / np.where(vanishes, 1.0, norm)).astype(np.float32)


PRIOR_ONLY = "prior-only"
"""The row of a run with the reranker that has no model: what the prior finds alone."""

BASELINES: dict[str, Callable[[Vectors], Vectors]] = {"last_vector": last_vector, "context_mean": context_mean}

UNFITTED = tuple(BASELINES)


@dataclass(frozen=True, eq=False, slots=True)
class TrainingWindows:
    """What a baseline is fitted on and chosen with."""

    train: npt.NDArray[np.int32]
    val: npt.NDArray[np.int32]
    val_novel: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class FittedBaseline:
    """A baseline ready to predict."""

    predict: Callable[[Vectors], Vectors]
    chosen: Mapping[str, float] = field(default_factory=dict)


def fit_baseline(name: str, vectors: npt.NDArray[np.floating], training: TrainingWindows | None) -> FittedBaseline:
    """Return the baseline of that name."""
    return FittedBaseline(BASELINES[name])
