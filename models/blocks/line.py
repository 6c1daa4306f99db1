"""The line that `residual: fitted` starts from: a linear map of the whole context, fitted before training.

Letters: B windows, L context length, D vector dim. Lag 0 is the last chunk that a position sees.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import UserError


class FittedLine(nn.Module):
    """prediction[t] = unit( sum over lags of context[t - lag] . weight[lag] + bias[t] ), the same for every trial.

    Both tensors are buffers: training does not change them and a checkpoint carries them. `bias[t]` holds what stands
    for the chunks before the context's first one. Empty until `set` is called or a checkpoint is loaded.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0, 0, 0))
        self.register_buffer("bias", torch.empty(0, 0))

    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Take weight (L, D, D) by lag and bias (L, D) by position, float32."""
        length, dim = bias.shape
        if tuple(weight.shape) != (length, dim, dim):
            raise UserError(
                f"fitted line: expected weight {(length, dim, dim)} with bias {(length, dim)}, "
                f"got {tuple(weight.shape)}; fit it to windows of the same payload"
            )
        self.weight, self.bias = weight.to(self.weight.device), bias.to(self.bias.device)

    def forward(self, context: Tensor) -> Tensor:
        """Map contexts (B, L', D), L' at most L, to predictions (B, L', D) of unit norm."""
        length = context.shape[1]
        if length > len(self.bias):
            raise UserError(
                f"fitted line: expected contexts of at most {len(self.bias)} chunks, as in its training, got {length}; "
                "give shorter contexts, or train with them"
            )
        batch, _, dim = context.shape
        # Position by position in memory: each lag is then one matrix product. With the window first, a GPU does one for
        # each window: on an H100 that took more than half of a step.
        tokens = context.transpose(0, 1).contiguous()  # (L', B, D)
        line = (tokens.view(-1, dim) @ self.weight[0]).view(length, batch, dim) + self.bias[:length, None]
        for lag in range(1, length):
            line[lag:].view(-1, dim).addmm_(tokens[:-lag].view(-1, dim), self.weight[lag])
        return F.normalize(line, dim=-1).transpose(0, 1)
