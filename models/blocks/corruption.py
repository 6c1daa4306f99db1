"""What is done to the input in training only, so that a model learns what holds elsewhere, too."""

from __future__ import annotations

from typing import NamedTuple

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


class Rotations(NamedTuple):
    """A rotation of each window's vectors: signs, a fixed rotation, signs, that rotation and signs.

    Such products are close to random rotations (arXiv 1610.09072), and cost two products with one matrix.
    """

    fixed: Tensor  # (D, D)
    signs: Tensor  # (3, B, 1, D)
    which: Tensor  # (B, 1, 1) booleans: the windows that are rotated

    def rotate(self, x: Tensor) -> Tensor:
        """Return the vectors x (B, L, D) rotated."""
        first, second, third = self.signs
        return torch.where(self.which, (x * first @ self.fixed * second @ self.fixed) * third, x)

    def rotate_back(self, x: Tensor) -> Tensor:
        """Return the vectors whose rotation x (B, L, D) is."""
        first, second, third = self.signs
        return torch.where(self.which, (x * third @ self.fixed.T * second @ self.fixed.T) * first, x)


class RandomRotation(nn.Module):
    """A new rotation for each of a share of the windows in training; none in evaluation."""

    fixed: Tensor

    def __init__(self, share: float, dim: int) -> None:
        super().__init__()
        self.share = share
        if share > 0.0:
            drawn = torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim))
            self.register_buffer("fixed", torch.linalg.qr(drawn)[0], persistent=False)

    def forward(self, context: Tensor) -> tuple[Tensor, Rotations | None]:
        """Return the context (B, L, D) as the layers see it, and what rotates their output back; None for nothing."""
        if not self.training or self.share == 0.0:
            return context, None
        batch, _, dim = context.shape
        signs = torch.randint(0, 2, (3, batch, 1, dim), device=context.device).float() * 2.0 - 1.0
        rotations = Rotations(self.fixed, signs, torch.rand(batch, 1, 1, device=context.device) < self.share)
        return rotations.rotate(context), rotations


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
