"""Corruption of the input in training, so that a model does not rely on the last chunk alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ContextCorruption(nn.Module):
    """Set the last positions of some windows to zero and replace one position of others; nothing in evaluation."""

    def __init__(self, context_dropout: float, span_corruption: float) -> None:
        super().__init__()
        self.context_dropout, self.span_corruption = context_dropout, span_corruption

    def forward(self, context: Tensor) -> Tensor:
        """Return a corrupted copy of the context (B, L, D) in training, the context itself in evaluation."""
        if not self.training or context.shape[1] < 2:
            return context
        if self.context_dropout > 0.0:
            context = drop_last(context, self.context_dropout)
        if self.span_corruption > 0.0:
            context = replace_one(context, self.span_corruption)
        return context


def drop_last(context: Tensor, share: float) -> Tensor:
    """Set the last k positions of a random `share` of the windows to zero, k uniform in 1..L-1."""
    batch, length, _ = context.shape
    dropped = torch.randint(1, length, (batch, 1), device=context.device)
    dropped = dropped * (torch.rand(batch, 1, device=context.device) < share)
    keep = torch.arange(length, device=context.device) < length - dropped  # (B, L)
    return context * keep[..., None]


def replace_one(context: Tensor, share: float) -> Tensor:
    """Replace one random position of a random `share` of the windows by that of the window before it in the batch."""
    batch, length, _ = context.shape
    where = torch.randint(0, length, (batch, 1), device=context.device)
    chosen = torch.rand(batch, 1, device=context.device) < share
    replaced = (torch.arange(length, device=context.device) == where) & chosen  # (B, L)
    return torch.where(replaced[..., None], context.roll(1, dims=0), context)
