"""context_ewm: the exponentially weighted mean of the context, less a share of the training chunks' mean.

Letters: Q queries, L context length, D vector dimension.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from evaluation.retrieval.fitted.choice import Float32, TrainingData, fit_each, unit_or_last

DECAYS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_FIRST_SHARE = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class FittedEwm:
    """unit( sum over lags of w_lag x_lag - share * mean ), w_lag = decay^lag / (sum of them), lag 0 the last chunk."""

    decay: float
    share: float
    mean: Float32
    """(D,) mean of the training chunks."""
    score: float
    """On validation; see `TrainingData.score`."""

    @property
    def chosen(self) -> dict[str, float]:
        """Decay, share and their score on validation."""
        return {"decay": self.decay, "share": self.share, "val_score": self.score}

    def predict(self, context: Float32) -> Float32:
        """Predict for contexts (Q, L, D); see `FittedBaseline`."""
        return unit_or_last(weighted_mean(context, self.decay) - self.share * self.mean, context)


def lag_weights(length: int, decay: float) -> Float32:
    """Return weights (L,) for the oldest to the last chunk that fall by `decay` a lag and sum to 1."""
    weights = np.power(decay, np.arange(length - 1, -1, -1.0))
    return np.asarray(weights / weights.sum(), np.float32)


def weighted_mean(context: Float32, decay: float) -> Float32:
    """Return the exponentially weighted mean (Q, D) of contexts (Q, L, D), not normalised."""
    mean: Float32 = lag_weights(context.shape[1], decay) @ np.asarray(context, np.float32)
    return mean


@lru_cache(maxsize=1)  # ridge begins where this ends
def fit_ewm(data: TrainingData) -> FittedEwm:
    """Choose the decay at a middling share, then the share at that decay, each by the score on validation."""

    def fitted(decay: float, share: float) -> FittedEwm:
        ewm = FittedEwm(decay, share, data.train_mean, float("nan"))
        return FittedEwm(decay, share, data.train_mean, data.score(ewm.predict))

    first = max(fit_each(lambda decay: fitted(decay, _FIRST_SHARE), DECAYS, data.threads), key=lambda ewm: ewm.score)
    shares = [share for share in SHARES if share != _FIRST_SHARE]
    others = fit_each(lambda share: fitted(first.decay, share), shares, data.threads)
    return max([first, *others], key=lambda ewm: ewm.score)
