"""The rows: each a function from an experiment's training to predictions, in a process of its own.

Q queries, D vector dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data.windows.novelty import distinct_rows
from evaluation.measures.metrics import soft_recall
from evaluation.retrieval.fitted.choice import choosing_queries
from evaluation.retrieval.fitted.ridge import POWERS, SMALLEST_VARIANCE
from models.training.losses import RECALL_AT
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.trials.learner import Learner
from tests.benchmarks.training import Training
from tests.benchmarks.tries import losses, models

VARIANT, LINE = "mamba_s", "linear"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
OWN_SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
WIDTHS = (0.5, 1.0, 2.0)


class Predictions(NamedTuple):
    """Unit rows for the queries that validation chooses by, and for those of the test."""

    val: Tensor  # (V, D)
    test: Tensor  # (Q, D)


class Trier:
    """Trains what rows are made of, each once."""

    def __init__(self, config: ExperimentConfig) -> None:
        self.training = Training(config)
        val = self.training.questions.val
        self._choosing = val.windows[choosing_queries(val.novel, self.training.table.num_rows)]
        self._models: dict[str, Learner] = {}

    @cached_property
    def contexts(self) -> Predictions:
        """The chunks (Q, L, D) that both kinds of query are about."""
        sets = self._choosing, self.training.questions.final.windows
        return Predictions(*(self.training.table.gather(windows[:, :-1])[0] for windows in sets))

    def trained(self, name: str) -> Learner:
        """Return a variant as the experiment trains it."""
        if name not in self._models:
            self._models[name] = self.train(self.training.learner(name), name)
        return self._models[name]

    def train(self, learner: Learner, name: str, *, seed: int | None = None) -> Learner:
        """Train a learner by the settings of a variant."""
        self.training.train(learner, name, seed=seed)
        return learner

    def predictions(self, learner: Learner) -> Predictions:
        """Ask a learner."""
        sets = self._choosing, self.training.questions.final.windows
        return Predictions(*(torch.from_numpy(learner.predict(windows)) for windows in sets))

    def of_line(self) -> Predictions:
        """Ask the fitted line."""
        return Predictions(*(torch.from_numpy(self.training.line.predict(asked.numpy())) for asked in self.contexts))

    def best(self, candidates: Iterable[Predictions]) -> Predictions:
        """Return what has the best soft R@5 on validation, the first of equals."""
        table = self.training.table
        target, _ = table.gather(self._choosing[:, -1:])
        return max(candidates, key=lambda one: soft_recall(table.ranks(one.val, target[:, 0]), 5))


def as_it_is(name: str, trier: Trier) -> Predictions:
    return trier.predictions(trier.trained(name))


def fitted_line(trier: Trier) -> Predictions:
    return trier.of_line()


def whitened_ewm(trier: Trier) -> Predictions:
    """The mean that ridge corrects, times C^-power without any correction; the power by validation.

    C is the covariance of the chunks in training windows, as for whitened_ridge.
    """
    data, base = trier.training.fitted_to, trier.training.line.base
    rows = distinct_rows(data.train, len(data.vectors))
    variances, directions = np.linalg.eigh(np.cov(np.asarray(data.vectors[rows], np.float32).T))
    stretched = np.maximum(variances / variances.mean(), SMALLEST_VARIANCE)

    def of_power(power: float) -> Predictions:
        whitening = torch.from_numpy((directions * stretched**-power) @ directions.T).float()
        plain = (torch.from_numpy(base.predict(asked.numpy())) for asked in trier.contexts)
        return Predictions(*(F.normalize(one @ whitening, dim=-1) for one in plain))

    return trier.best(of_power(power) for power in (0.0, *POWERS))


def less_of_context(without: Callable[[Tensor, Tensor, float], Tensor], trier: Trier) -> Predictions:
    """The fitted line less what its context has in common with it; the share by validation."""
    line, contexts = trier.of_line(), trier.contexts
    return trier.best(
        Predictions(*(without(one, context, share) for one, context in zip(line, contexts, strict=True)))
        for share in OWN_SHARES
    )


def mixed(one: Predictions, other: Predictions) -> Iterator[Predictions]:
    """Yield sums of two predictions, weighted."""
    for weight in WEIGHTS:
        sums = (weight * a + (1 - weight) * b for a, b in zip(one, other, strict=True))
        yield Predictions(*(F.normalize(total, dim=-1) for total in sums))


def mix_of_variant_and_line(trier: Trier) -> Predictions:
    one, other = (trier.predictions(trier.trained(name)) for name in (VARIANT, LINE))
    return trier.best(mixed(one, other))


def mix_of_two_lines(trier: Trier) -> Predictions:
    """The dumbest mix: the same line from another seed."""
    seed = trier.training.config.seed + 1_000
    other = trier.train(trier.training.learner(LINE, seed=seed), LINE, seed=seed)
    return trier.best(mixed(trier.predictions(trier.trained(LINE)), trier.predictions(other)))


def low_rank(trier: Trier) -> Predictions:
    with models.built_by(models.LowRank):
        learner = trier.training.learner(LINE)
    return trier.predictions(trier.train(learner, LINE))


def random_features(trier: Trier) -> Predictions:
    """Of the width that validation chooses."""

    def of_width(width: float) -> Predictions:
        decay = trier.training.line.base.decay
        with models.built_by(partial(models.RandomFeatures, width=width, decay=decay)):
            learner = trier.training.learner(LINE)
        return trier.predictions(trier.train(learner, LINE))

    return trier.best(of_width(width) for width in WIDTHS)


def on_trained_line(trier: Trier) -> Predictions:
    """Layers without a direct path on the line that `linear` has made of the fitted one."""
    learner = trier.training.learner(VARIANT, direct_chunks=0)
    learner.model.head.line = models.FrozenModel(trier.trained(LINE).model)
    return trier.predictions(trier.train(learner, VARIANT))


def averaged_weights(trier: Trier) -> Predictions:
    return trier.predictions(trier.train(trier.training.learner(VARIANT, models.AveragedLearner), VARIANT))


def with_loss(of_ranks: losses.OfRanks, trier: Trier, *, own_context: bool = True) -> Predictions:
    learner = trier.training.learner(VARIANT)
    learner.loss = losses.RankLoss(learner.loss, of_ranks, own_context=own_context)
    return trier.predictions(trier.train(learner, VARIANT))


ROWS: dict[str, Callable[[Trier], Predictions]] = {
    "whitened_ridge": fitted_line,
    LINE: partial(as_it_is, LINE),
    VARIANT: partial(as_it_is, VARIANT),
    "whitened_ewm": whitened_ewm,
    "less_own_span": partial(less_of_context, models.without_own_span),
    "less_own_mean": partial(less_of_context, models.without_own_mean),
    "low_rank": low_rank,
    "random_features": random_features,
    "mix_of_variant_and_line": mix_of_variant_and_line,
    "mix_of_two_lines": mix_of_two_lines,
    "on_trained_line": on_trained_line,
    "averaged_weights": averaged_weights,
    "own_context_not_ranked": partial(with_loss, losses.recall_at(*RECALL_AT), own_context=False),
    "recall_at_5_alone": partial(with_loss, losses.recall_at(5)),
    "recall_at_50_alone": partial(with_loss, losses.recall_at(50)),
    "logarithm_of_ranks": partial(with_loss, losses.logarithm),
}


def predict(config: ExperimentConfig, names: Sequence[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield rows and their predictions (Q, D) for the final queries."""
    trier = Trier(config)
    for name in names:
        yield name, ROWS[name](trier).test.numpy()
