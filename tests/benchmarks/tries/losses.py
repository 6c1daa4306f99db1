"""Other losses of the same soft ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.training.losses import RECALL_AT, Loss, LossOutput, select_positions, smooth_recall, soft_ranks

OfRanks = Callable[[Tensor], Tensor]
"""From soft ranks (T, b) to a loss, a scalar."""


class RankLoss(Loss):
    """A function of the soft ranks; `own_context`: whether the context's own chunks are among the wrong answers."""

    def __init__(self, base: Loss, of_ranks: OfRanks, *, own_context: bool = True) -> None:
        super().__init__(base.config, base.num_rows)
        self._of_ranks, self._own_context = of_ranks, own_context

    def forward(
        self,
        pred: Tensor,
        vectors: Tensor,
        ids: Tensor,
        own: slice | None = None,
        drawn: tuple[Tensor, Tensor] | None = None,
    ) -> LossOutput:
        batch = select_positions(self.config, pred.float(), vectors.float(), ids, own=own, drawn=drawn)
        if not self._own_context:
            batch = batch._replace(context=batch.context[:, :0], context_ids=batch.context_ids[:, :0])
        return LossOutput(self._of_ranks(soft_ranks(self, batch)), {})


def recall_at(*ks: int) -> OfRanks:
    return lambda ranks: 1.0 - smooth_recall(ranks, ks)


def logarithm(ranks: Tensor) -> Tensor:
    """Weighs a rank of 5,000 as it weighs first ones."""
    return torch.log1p(ranks / RECALL_AT[0]).mean()
