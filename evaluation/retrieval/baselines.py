"""Predictions without gradient descent: what any model must beat, all behind one interface.

Q queries, L context chunks (oldest first), D vector dimension. Every baseline maps (Q, L, D) to (Q, D) of norm 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data.errors import UserError
from evaluation.retrieval.fitted.choice import FittedBaseline, Float32, Predict, TrainingData, unit_or_last
from evaluation.retrieval.fitted.ewm import fit_ewm
from evaluation.retrieval.fitted.nearest import fit_nearest
from evaluation.retrieval.fitted.ridge import fit_ridge, fit_whitened_ridge
from models.spec.imported import load_object

UNIT_NORM_TOLERANCE = 1e-3  # float16 payloads and float32 normalisation stay well inside

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
    "whitened_ridge": fit_whitened_ridge,
    "nearest_context": fit_nearest,
}
"""Those that are fitted to the training windows, their settings chosen on validation windows."""

ALL_BASELINES = (*BASELINES, *FITTED)


@dataclass(frozen=True, slots=True)
class ParameterFree:
    """A baseline with nothing to fit, as a fitted one."""

    predict: Predict
    chosen: dict[str, float] = field(default_factory=dict)


def fit_baseline(entry: str, data: TrainingData) -> FittedBaseline:
    """Make a baseline ready to predict: one of BASELINES or FITTED, or by import path one of somebody else.

    The same data give the same figures.
    """
    return FITTED[entry](data) if entry in FITTED else ParameterFree(parameter_free(entry))


def parameter_free(entry: str) -> Predict:
    """Return a baseline with nothing to fit; UserError when an import path names none."""
    return BASELINES[entry] if entry in BASELINES else load_imported(entry)


def load_imported(path: str) -> Predict:
    """Import a baseline of somebody else and try it on random contexts; UserError when it is none."""
    where, given = f"baselines: {path}", load_object("baselines", path)
    context = np.random.default_rng(0).standard_normal((4, 3, 8)).astype(np.float32)
    context /= np.linalg.norm(context, axis=-1, keepdims=True)
    try:
        found = np.asarray(given(context))
    except Exception as error:  # somebody else's code may raise anything
        raise UserError(
            f"{where}: expected a map of contexts (Q, L, D), got {type(error).__name__} ({error}); correct the function"
        ) from error
    if found.shape != (4, 8) or not np.allclose(np.linalg.norm(found, axis=-1), 1.0, atol=UNIT_NORM_TOLERANCE):
        raise UserError(
            f"{where}: expected unit predictions (4, 8) for contexts (4, 3, 8), got {found.shape} or another norm; "
            "correct it"
        )

    def predict(context: Float32) -> Float32:
        return np.ascontiguousarray(given(context), dtype=np.float32)

    return predict
