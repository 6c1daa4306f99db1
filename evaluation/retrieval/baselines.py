"""Predictions without gradient descent: what any model must beat, all behind one interface.

Q queries, L context chunks (oldest first), D vector dimension. Every baseline maps (Q, L, D) to (Q, D) of norm 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from evaluation.retrieval.fitted.choice import FittedBaseline, Float32, Predict, TrainingData, unit_or_last
from evaluation.retrieval.fitted.ewm import fit_ewm
from evaluation.retrieval.fitted.nearest import fit_nearest
from evaluation.retrieval.fitted.ridge import fit_ridge

PRIOR_ONLY = "prior-only"
"""The row of a run with the reranker that has no model: what the prior finds alone."""


def last_vector(context: Float32) -> Float32:
    """Repeat the last chunk: the next one is assumed to say the same."""
    return np.ascontiguousarray(context[:, -1], dtype=np.float32)  # (Q, D)


def context_mean(context: Float32) -> Float32:
    """The normalised mean of the context; where the mean vanishes, the last chunk."""
    return unit_or_last(context.astype(np.float32).mean(axis=1), context)


BASELINES: dict[str, Predict] = {"last_vector": last_vector, "context_mean": context_mean}
"""Those without a parameter."""

FITTED: dict[str, Callable[[TrainingData], FittedBaseline]] = {
    "context_ewm": fit_ewm,
    "ridge": fit_ridge,
    "nearest_context": fit_nearest,
}
"""Those that are fitted to the training windows, their settings chosen on validation windows."""

ALL_BASELINES = (*BASELINES, *FITTED)


@dataclass(frozen=True, slots=True)
class ParameterFree:
    """A baseline with nothing to fit, as a fitted one."""

    predict: Predict
    chosen: dict[str, float] = field(default_factory=dict)


def fit_baseline(name: str, data: TrainingData) -> FittedBaseline:
    """Make any baseline of BASELINES or FITTED ready to predict; the same data give the same figures."""
    if name in BASELINES:
        return ParameterFree(BASELINES[name])
    return FITTED[name](data)
