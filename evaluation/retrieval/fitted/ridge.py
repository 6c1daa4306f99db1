"""ridge and whitened_ridge: context_ewm, corrected by a linear map of the whole context, in closed form.

With f(x) the context's chunks one after the other, centred on the training windows, the prediction is

    unit( ewm(x) - share * mean + W' f(x) ),   W = (F'F + penalty I)^-1 F'R,

F the f of all training windows and R what ewm leaves of their targets, centred too (Hoerl & Kennard 1970). At an
infinite penalty it is context_ewm. The centring matters. A map with an intercept of its own brings back the mean that
the share takes away: on 27,000 real chunks (256-D, novel targets) R@5 is then 15.7 and Contain@50 37.9, instead of 17.8
and 44.2.

whitened_ridge multiplies that sum with C^-power before it is normalised, C the covariance of the training chunks.
Chunks differ most along few directions, so these decide a cosine and hide the others. A prediction times C^-1 ranks by
the products of whitened vectors (arXiv 2103.15316), in an index that knows nothing of it; a smaller power goes part of
the way. Validation chooses the power: the smallest one, 0 included, that is within a standard error of the best mean of
both soft recalls, since with few articles the best one is chance. Then it chooses the penalty: whitening bears less
shrinkage.

Where L * D is more than MOST_UNKNOWNS, neighbouring lags share their weights. Then f holds means over groups of lags:
single chunks at the end of the context, ever longer groups before them.

Letters: Q queries, W training windows, L context length, D vector dimension, K groups of lags, F = K * D unknowns.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from data.windows.novelty import distinct_rows
from evaluation.retrieval.fitted.choice import (
    Float32,
    Float64,
    TrainingData,
    blocks,
    fit_each,
    in_order,
    simplest,
    unit_or_last,
)
from evaluation.retrieval.fitted.ewm import FittedEwm, fit_ewm, lag_weights, weighted_mean

MOST_UNKNOWNS = 6_000  # the normal equations then have 0.3 GB; a solution takes seconds
PENALTIES = tuple(float(penalty) for penalty in 10.0 ** np.arange(-1.5, 2.1, 0.5))
"""Of the mean eigenvalue of F'F: 1 shrinks a direction of average variance by half."""
POWERS = (0.25, 0.5, 0.75, 1.0)
SMALLER_PENALTIES = 2
"""How many below ridge's own are tried with the chosen power."""
SMALLEST_VARIANCE = 1e-2
"""Of the mean one: directions that vary less are stretched no more than this one, since there is only noise in them."""


@dataclass(frozen=True, eq=False, slots=True)
class FittedRidge:
    """unit( context (L * D) . weights + bias ): base and correction in one linear map, for others to start from."""

    weights: Float32
    """(L * D, D), rows in the order of the context, oldest chunk first."""
    bias: Float32
    """(D,)"""
    base: FittedEwm
    penalty: float
    num_groups: int
    score: float
    """On validation; see `TrainingData.score`."""
    power: float | None = None
    """Of the whitening; None where there is none to choose."""

    @property
    def chosen(self) -> dict[str, float]:
        """The base's decay and share, the penalty, the groups of lags (L: each lag has weights of its own), the power
        of the whitening, if any, and the score.
        """
        chosen = {"decay": self.base.decay, "share": self.base.share, "penalty": self.penalty}
        power = {} if self.power is None else {"power": self.power}
        return chosen | {"lag_groups": float(self.num_groups), **power, "val_score": self.score}

    def predict(self, context: Float32) -> Float32:
        """Predict for contexts (Q, L, D); see `FittedBaseline`."""
        flat = np.asarray(context, np.float32).reshape(len(context), -1)
        return unit_or_last(flat @ self.weights + self.bias, context)

    def by_position(self) -> tuple[Float32, Float32]:
        """Return the map for every shorter context, too, where the mean training chunk stands for what is missing.

        Returns:
            weights (L, D, D), lag 0 (the last chunk) first; biases (L, D), that of a single chunk first.
        """
        dim = len(self.bias)
        weights = self.weights.reshape(-1, dim, dim)[::-1]
        stand_ins = np.einsum("i,lij->lj", self.base.mean, weights)  # (L, D)
        missing = np.cumsum(stand_ins[::-1], axis=0)[::-1] - stand_ins  # position t lacks the lags after t
        return np.ascontiguousarray(weights), (self.bias + missing).astype(np.float32)


def fit_ridge(data: TrainingData) -> FittedRidge:
    """Fit to the training windows for each penalty and keep the one with the best score on validation."""
    return _fit_both(data)[0]


def fit_whitened_ridge(data: TrainingData) -> FittedRidge:
    """Choose the power at ridge's penalty, then the penalty at that power."""
    return _fit_both(data)[1]


@lru_cache(maxsize=1)  # at full size the normal equations take minutes
def _fit_both(data: TrainingData) -> tuple[FittedRidge, FittedRidge]:
    """Return ridge and whitened_ridge."""
    from scipy.linalg import cho_factor, cho_solve  # who only names the baselines need not import it

    base = fit_ewm(data)
    length, dim = data.train.shape[1] - 1, data.vectors.shape[1]
    groups = lag_groups(length, max(1, MOST_UNKNOWNS // dim))
    gram, cross, mean = _normal_equations(data, base.decay, groups)
    scale = max(float(np.trace(gram)) / len(gram), float(np.finfo(np.float32).tiny))

    def solved(penalty: float) -> FittedRidge:
        shifted = gram.copy()
        shifted.flat[:: len(gram) + 1] += penalty * scale
        correction = cho_solve(cho_factor(shifted, overwrite_a=True, check_finite=False), cross, check_finite=False)
        return FittedRidge(*_in_one_map(base, groups, correction, mean), base, penalty, len(groups), float("nan"))

    def scored(ridge: FittedRidge) -> tuple[FittedRidge, Float64]:
        hits = data.soft_hits(ridge.predict)
        return replace(ridge, score=float(hits[0].mean())), hits

    def best(fits: list[tuple[FittedRidge, Float64]]) -> tuple[FittedRidge, Float64]:
        return max(fits, key=lambda fit: fit[0].score)

    ridge, hits = best(fit_each(lambda penalty: scored(solved(penalty)), PENALTIES, data.threads))
    space = np.linalg.eigh(_covariance(data))
    by_power = fit_each(lambda power: scored(_whitened(ridge, power, *space)), POWERS, data.threads)
    by_power.insert(0, (replace(ridge, power=0.0), hits))
    chosen = by_power[simplest([hits.mean(axis=0) for _, hits in by_power], data.query_articles)]
    power = chosen[0].power
    if not power:
        return ridge, chosen[0]
    place = PENALTIES.index(ridge.penalty)
    smaller = PENALTIES[max(0, place - SMALLER_PENALTIES) : place]
    by_penalty = fit_each(lambda penalty: scored(_whitened(solved(penalty), power, *space)), smaller, data.threads)
    return ridge, best([chosen, *by_penalty])[0]


def _covariance(data: TrainingData) -> Float64:
    """Return the covariance (D, D) of the chunks that stand in training windows, each counted once.

    Blocks are multiplied in float32 and added in float64.
    """
    rows, dim = distinct_rows(data.train, len(data.vectors)), data.vectors.shape[1]

    def product_of(part: slice) -> Float32:
        centred = np.asarray(data.vectors[rows[part]], np.float32) - data.train_mean
        product: Float32 = centred.T @ centred
        return product

    total = np.zeros((dim, dim))
    for product in in_order(product_of, blocks(len(rows), dim), data.threads):
        total += product
    return total / len(rows)


def _whitened(ridge: FittedRidge, power: float, variances: Float64, directions: Float64) -> FittedRidge:
    """Multiply a ridge's sum with C^-power; C has these variances (D,) along these directions, (D, D) in columns."""
    mean = max(float(variances.mean()), float(np.finfo(np.float32).tiny))
    stretched = (np.maximum(variances, SMALLEST_VARIANCE * mean) / mean) ** -power
    whitening = ((directions * stretched) @ directions.T).astype(np.float32)
    return replace(ridge, weights=ridge.weights @ whitening, bias=ridge.bias @ whitening, power=power)


def lag_groups(length: int, most: int) -> Float32:
    """Return the means over groups of lags as a matrix (K, L), K at most `most`; columns from the oldest lag to lag 0.

    One lag a group where that is enough. Else later groups hold ever more lags: 7 groups of 32 lags have 1, 1, 1, 3, 4,
    8 and 14.
    """
    num = min(most, length)
    ends = np.maximum(np.arange(1, num + 1), np.floor(np.geomspace(1, length, num) + 0.5))
    ends[-1] = length
    group = np.searchsorted(ends, np.arange(length - 1, -1, -1), side="right")  # (L,)
    member = (group == np.arange(num)[:, None]).astype(np.float32)  # (K, L)
    means: Float32 = member / member.sum(axis=1, keepdims=True)
    return means


def _normal_equations(data: TrainingData, decay: float, groups: Float32) -> tuple[Float64, Float64, Float64]:
    """Return F'F (F, F), F'R (F, D) and the mean (F,) that was taken out of F beyond the mean chunk.

    Blocks are multiplied in float32 and added in float64.
    """
    dim = data.vectors.shape[1]
    num, unknowns = len(data.train), len(groups) * dim
    gram, cross = np.zeros((unknowns, unknowns)), np.zeros((unknowns, dim))
    feature_sum, rest_sum = np.zeros(unknowns), np.zeros(dim)

    def sums_of(part: slice) -> tuple[Float32, Float32, Float64, Float64]:
        context = data.context(data.train[part])  # (n, L, D)
        target = np.asarray(data.vectors[data.train[part, -1]], np.float32)
        rest = target - weighted_mean(context, decay)  # (n, D)
        features = (groups @ (context - data.train_mean)).reshape(len(context), -1)  # (n, F)
        own_sums = features.sum(axis=0, dtype=np.float64), rest.sum(axis=0, dtype=np.float64)
        return features.T @ features, features.T @ rest, *own_sums

    for of_part in in_order(sums_of, data.parts(data.train), data.threads):
        gram += of_part[0]
        cross += of_part[1]
        feature_sum += of_part[2]
        rest_sum += of_part[3]
    mean = feature_sum / num
    return gram - num * np.outer(mean, mean), cross - np.outer(mean, rest_sum), mean


def _in_one_map(base: FittedEwm, groups: Float32, correction: Float64, mean: Float64) -> tuple[Float32, Float32]:
    """Return weights (L * D, D) and bias (D,) of base and correction together."""
    length, dim = groups.shape[1], len(base.mean)
    by_group = correction.astype(np.float32).reshape(len(groups), dim, dim)
    weights = np.einsum("kl,kij->lij", groups, by_group)  # (L, D, D)
    weights += lag_weights(length, base.decay)[:, None, None] * np.eye(dim, dtype=np.float32)
    centre = np.tile(base.mean, len(groups)) + mean  # (F,)
    bias = -base.share * base.mean - centre @ correction
    return weights.reshape(length * dim, dim), bias.astype(np.float32)
