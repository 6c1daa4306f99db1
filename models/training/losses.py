"""The training losses: a registry of parts and their weighted sum.

A prediction is compared with its target and, for InfoNCE, also with the other targets of the batch; for the recall with
chunks that are drawn for the step. With several workers each one predicts its own windows and sees the targets of all
windows and the same drawn chunks. So the mean of the workers' losses equals the loss of one worker with the whole
batch.

Letters: b own windows, B windows of the global batch, L context length, D vector dim, T positions trained on (L or 1),
E hard negatives a window, M drawn chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import UserError
from models.spec.loss import LossConfig

RECALL_AT = (5, 50)
"""The ranks at which a target counts half for the recall."""
TEMPERATURE_RANGE = (0.01, 1.0)
"""A learned temperature stays in here: at 0.01 the logits of unit vectors already reach +-100."""


class LossOutput(NamedTuple):
    """The loss to minimise and its parts, detached and unweighted, by name."""

    total: Tensor
    parts: dict[str, Tensor]


class Batch(NamedTuple):
    """What a loss compares. The position is the first axis: the products are done position by position."""

    pred: Tensor  # (T, b, D)
    targets: Tensor  # (T, B, D)
    target_ids: Tensor  # (T, B)
    own: slice  # pred[:, i] should become targets[:, own.start + i]
    context: Tensor  # (b, L, D) of the own windows
    context_ids: Tensor  # (b, L)
    hard: Tensor  # (b, E, D) of the own windows
    hard_ids: Tensor  # (b, E)
    drawn: Tensor  # (M, D)
    drawn_ids: Tensor  # (M,)

    @property
    def own_targets(self) -> Tensor:
        """The targets of the own windows (T, b, D)."""
        return self.targets[:, self.own]


class Loss(nn.Module):
    """The weighted sum of the losses that the configuration gives a weight."""

    log_temperature: Tensor

    def __init__(self, config: LossConfig, num_rows: int = 0) -> None:
        """Take the payload's number of rows, which the drawn chunks stand for; 0: they stand for themselves."""
        super().__init__()
        self.config = config
        self.num_rows = num_rows
        self.weights = {name: getattr(config, name) for name in LOSSES if getattr(config, name) > 0.0}
        start = torch.tensor(math.log(config.temperature))
        if config.learn_temperature:
            self.log_temperature = nn.Parameter(start)
        else:
            self.register_buffer("log_temperature", start, persistent=False)

    def forward(
        self,
        pred: Tensor,
        vectors: Tensor,
        ids: Tensor,
        own: slice | None = None,
        drawn: tuple[Tensor, Tensor] | None = None,
    ) -> LossOutput:
        """Compare predictions with their targets.

        | argument | shape            | note                                                                      |
        |----------|------------------|---------------------------------------------------------------------------|
        | pred     | (b, L, D)        | unit rows; position t predicts chunk t + 1 of its window                  |
        | vectors  | (B, L+1+E, D)    | unit rows of the global batch: the windows, then hard negatives, if any   |
        | ids      | (B, L+1+E) int64 | rows with equal ids are the same vector, so never negatives of each other |
        | own      |                  | which windows of the global batch `pred` belongs to; None for all of them |
        | drawn    | (M, D) and (M,)  | unit rows that the recall ranks a target among, and their ids             |

        Raises UserError on shapes that do not fit together.
        """
        with torch.autocast(pred.device.type, enabled=False):  # logits reach 1 / temperature: no half precision
            batch = select_positions(self.config, pred.float(), vectors.float(), ids, own=own, drawn=drawn)
            parts = {name: LOSSES[name](self, batch) for name in self.weights}
            total = torch.stack([weight * parts[name] for name, weight in self.weights.items()]).sum()
        reported = {name: value.detach() for name, value in parts.items()}
        if self.config.learn_temperature:
            reported["temperature"] = self.temperature().detach()
        return LossOutput(total, reported)

    def temperature(self) -> Tensor:
        """Return the temperature, a scalar tensor."""
        return self.log_temperature.exp().clamp(*TEMPERATURE_RANGE)


def select_positions(
    config: LossConfig,
    pred: Tensor,
    vectors: Tensor,
    ids: Tensor,
    *,
    own: slice | None,
    drawn: tuple[Tensor, Tensor] | None,
) -> Batch:
    """Cut the batch into context, targets of the trained positions and hard negatives."""
    num_hard = config.article_negatives
    length = vectors.shape[1] - 1 - num_hard
    own = slice(0, vectors.shape[0]) if own is None else own
    expected = (own.stop - own.start, length, vectors.shape[2])
    if tuple(pred.shape) != expected or ids.shape != vectors.shape[:2]:
        raise UserError(
            f"loss: expected pred {expected} and ids {tuple(vectors.shape[:2])} for vectors {tuple(vectors.shape)}, "
            f"{own} and {num_hard} hard negatives, got {tuple(pred.shape)} and {tuple(ids.shape)}; "
            "vectors and ids are the global batch's, pred the own windows'"
        )
    if config.recall > 0.0 and drawn is None:
        raise UserError("loss: expected drawn chunks to rank the targets among, got none; give them or set recall: 0")
    first = 0 if config.dense else length - 1
    drawn = (vectors[:0, 0], ids[:0, 0]) if drawn is None else drawn
    return Batch(
        pred=pred[:, first:].transpose(0, 1),
        targets=vectors[:, first + 1 : length + 1].transpose(0, 1),
        target_ids=ids[:, first + 1 : length + 1].T,
        own=own,
        context=vectors[own, :length],
        context_ids=ids[own, :length],
        hard=vectors[own, length + 1 :],
        hard_ids=ids[own, length + 1 :],
        drawn=drawn[0].float(),
        drawn_ids=drawn[1],
    )


def infonce(loss: Loss, batch: Batch) -> Tensor:
    """Return -log softmax(pred . candidates / temperature)[target], mean over predictions.

    Candidates are the targets of the global batch and the configured extra negatives. The denominator leaves out every
    exact duplicate of the target, but keeps the target itself.
    Source: arXiv 1807.03748, equation 4.
    """
    pred = batch.pred / loss.temperature()
    logits, positive = _batch_logits(loss.config, pred, batch)
    extra = _extra_logits(loss.config, pred, batch)
    if extra is not None:
        logits = torch.cat([logits, extra.reshape(logits.shape[0], -1)], dim=1)
    return F.cross_entropy(logits, positive)


def _batch_logits(config: LossConfig, pred: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (T*b, candidates) over the batch's targets, duplicates at -inf, and the targets' columns."""
    positions, _, dim = pred.shape
    num_windows = batch.targets.shape[1]
    own = torch.arange(batch.own.start, batch.own.stop, device=pred.device)
    ids = batch.target_ids
    if config.negatives == "all":
        logits = pred.reshape(-1, dim) @ batch.targets.reshape(-1, dim).T  # (T*b, T*B)
        same = ids[:, batch.own].reshape(-1, 1) == ids.reshape(1, -1)
        shift = torch.arange(positions, device=pred.device) * num_windows
        positive = (shift[:, None] + own).reshape(-1)
    else:
        logits = torch.bmm(pred, batch.targets.transpose(1, 2)).reshape(-1, num_windows)  # (T*b, B)
        same = (ids[:, batch.own, None] == ids[:, None, :]).reshape(-1, num_windows)
        positive = own.repeat(positions)
    same.scatter_(1, positive[:, None], False)
    return logits.masked_fill(same, float("-inf")), positive


def _extra_logits(config: LossConfig, pred: Tensor, batch: Batch) -> Tensor | None:
    """Return logits (T, b, candidates) over the own window's context and hard negatives, if asked for."""
    blocks = []
    target_ids = batch.target_ids[:, batch.own, None]  # (T, b, 1)
    if config.context_negatives:
        blocks.append(_context_products(pred, batch))
    if config.article_negatives:
        blocks.append(_masked_products(pred, batch.hard, batch.hard_ids == target_ids))
    return torch.cat(blocks, dim=-1) if blocks else None


def _context_products(pred: Tensor, batch: Batch) -> Tensor:
    """Return pred (T, b, D) times the context that it has seen, (T, b, L), -inf for later chunks and the target."""
    positions, length = pred.shape[0], batch.context.shape[1]
    last_seen = torch.arange(length - positions, length, device=pred.device)[:, None, None]
    future = torch.arange(length, device=pred.device) > last_seen  # (T, 1, L)
    return _masked_products(pred, batch.context, future | (batch.context_ids == batch.target_ids[:, batch.own, None]))


def _masked_products(pred: Tensor, candidates: Tensor, left_out: Tensor) -> Tensor:
    """Return pred (T, b, D) times each window's own candidates (b, K, D), -inf where left out (T, b, K)."""
    products = torch.bmm(pred.transpose(0, 1), candidates.transpose(1, 2)).transpose(0, 1)  # (T, b, K)
    return products.masked_fill(left_out, float("-inf"))


def cosine(loss: Loss, batch: Batch) -> Tensor:
    """Return 1 - pred . target, mean over predictions."""
    return 1.0 - (batch.pred * batch.own_targets).sum(-1).mean()


def mse(loss: Loss, batch: Batch) -> Tensor:
    """Return |pred - target| ** 2, mean over predictions; for unit rows that is twice the cosine loss."""
    return (batch.pred - batch.own_targets).square().sum(-1).mean()


def recall(loss: Loss, batch: Batch) -> Tensor:
    """Return 1 - the mean of 1 / (1 + (rank / k)^2) over predictions and RECALL_AT, which `soft_recall` selects by."""
    return 1.0 - smooth_recall(soft_ranks(loss, batch), RECALL_AT)


def smooth_recall(rank: Tensor, at: Sequence[int]) -> Tensor:
    """Return the mean of 1 / (1 + (rank / k)^2) over ranks (T, b) and the k of `at`, a scalar."""
    return torch.stack([(1.0 / (1.0 + (rank / k).square())).mean() for k in at]).mean()


def soft_ranks(loss: Loss, batch: Batch) -> Tensor:
    """Return the rank from 1 of each prediction's target in the whole payload, with a gradient, (T, b).

    It is 1 + the drawn chunks above the target, each for as many rows of the payload as it stands for, + the chunks of
    the own context above it. Above or below is a sigmoid of the difference of both cosines over `recall_temperature`.
    Sources: Brown et al. 2020, Smooth-AP, arXiv 2007.12163; Patel, Tolias & Matas 2022, Recall@k Surrogate Loss,
    arXiv 2108.11179.
    """
    own = (batch.pred * batch.own_targets).sum(-1, keepdim=True)  # (T, b, 1)

    def above(products: Tensor) -> Tensor:
        return ((products - own) / loss.config.recall_temperature).sigmoid().sum(-1)

    same = batch.drawn_ids == batch.target_ids[:, batch.own, None]  # (T, b, M)
    drawn = above((batch.pred @ batch.drawn.T).masked_fill(same, float("-inf")))
    stands_for = max(loss.num_rows, len(batch.drawn)) / len(batch.drawn)
    return 1.0 + stands_for * drawn + above(_context_products(batch.pred, batch))


LossFunction = Callable[[Loss, Batch], Tensor]

LOSSES: dict[str, LossFunction] = {"infonce": infonce, "cosine": cosine, "mse": mse, "recall": recall}
"""Every loss by the name of its weight in `LossConfig`."""
