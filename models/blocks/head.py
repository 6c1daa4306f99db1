"""The output head: norm, projection to the vectors' space, sum with what is taken from the context, unit norm.

Adding the output to a base (the residual) was measured to matter more than the choice of variant. Training should also
start from that base, so the projection starts small. On a fitted line it starts at zero: the untrained model is the
line, and a prediction adds only the share of the output that validation asks for.

A direct path, a linear map of the last chunks, lets the loss correct the line itself, as it corrects that of the
baseline `linear`; what the layers add is then what a line does not find. It starts at zero.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.corruption import Rotations
from models.blocks.layers import channel_major, rms_norm
from models.blocks.line import FittedLine
from models.spec.specs import Residual

START_SHARE = 0.1
"""Norm of the projection's output at the start; the norm of the base is near 1."""

MATRIX_LENGTH = 64
"""Up to this length prefix means are one small matrix product, for longer ones a running sum."""


HeadInput = tuple[Tensor, Tensor, Rotations | None]
"""Hidden states (B, L, d_model), the context's vectors (B, L, D), and the rotations under which the layers saw them."""


class PredictionHead(nn.Module):
    """Turn hidden states and the context into predictions of unit norm.

    With a fitted line `share`, a buffer, scales what is added to it, outside of training: what a network adds to the
    best line is partly noise, and half of it may find more than all of it or nothing. It does not scale the direct
    path, so at 0 a line is left. 1 until somebody sets it.
    """

    share: Tensor

    def __init__(
        self, d_model: int, dim: int, residual: Residual, *, direct_chunks: int = 0, norm: bool = True
    ) -> None:
        super().__init__()
        self.residual = residual
        self.direct_chunks = direct_chunks
        self.norm = norm
        self.proj = nn.Linear(d_model, dim, bias=False)
        nn.init.normal_(self.proj.weight, std=START_SHARE / math.sqrt(d_model * dim))
        if direct_chunks > 0:
            self.direct = nn.Linear(direct_chunks * dim, dim, bias=False)
            nn.init.zeros_(self.direct.weight)
        if residual == "fitted":
            self.line = FittedLine()
            self.register_buffer("share", torch.ones(()))
            nn.init.zeros_(self.proj.weight)
        if residual == "learned":
            self.mix = nn.Parameter(torch.tensor([0.5, 0.5]))  # weights of the last vector and the prefix mean

    def forward(self, hidden: Tensor, context: Tensor, rotations: Rotations | None = None) -> Tensor:
        """Map hidden (B, L, d_model) and the context's vectors (B, L, D) to (B, L, D), float32, unit norm.

        `rotations`: those under which the layers saw the context; their output is rotated back.
        """
        output = self._project(rms_norm(hidden) if self.norm else hidden)
        direct = self.direct(last_chunks(context, self.direct_chunks)) if self.direct_chunks > 0 else None
        with torch.autocast(output.device.type, enabled=False):
            base = self._base(context.float())
            output = output.float() if rotations is None else rotations.rotate_back(output.float())
            if self.residual == "fitted" and not self.training:
                output = output * self.share
            output = output if base is None else output + base
            output = output if direct is None else output + direct.float()
            return F.normalize(output, dim=-1)

    def _project(self, hidden: Tensor) -> Tensor:
        """Return the projection (B, L, D), without copying an input that is channel-major in memory."""
        if not channel_major(hidden):
            out: Tensor = self.proj(hidden)
            return out
        flat = torch.mm(hidden.permute(2, 1, 0).flatten(1).t(), self.proj.weight.t())  # (L*B, D)
        return flat.view(hidden.shape[1], hidden.shape[0], -1).transpose(0, 1)

    def _base(self, context: Tensor) -> Tensor | None:
        """Return what the prediction is added to (B, L, D); position t sees positions up to t."""
        if self.residual == "none":
            return None
        if self.residual == "fitted":
            line: Tensor = self.line(context)
            return line
        if self.residual == "mean":
            return prefix_mean(context)
        if self.residual == "learned":
            return self.mix[0] * context + self.mix[1] * prefix_mean(context)
        return torch.lerp(context, prefix_mean(context), 0.5)


def last_chunks(context: Tensor, number: int) -> Tensor:
    """Return at every position the last `number` chunks, the nearest first: (B, L, D) -> (B, L, number * D).

    Zeros stand for the chunks before the first.
    """
    padded = F.pad(context, (0, 0, number - 1, 0))
    return padded.unfold(1, number, 1).flip(-1).transpose(2, 3).flatten(2)


def prefix_mean(x: Tensor) -> Tensor:
    """Return the mean of positions 0..t at every position t: (B, L, D) -> (B, L, D)."""
    length = x.shape[1]
    if length <= MATRIX_LENGTH:
        return torch.matmul(_mean_operator(length, x.dtype, x.device), x)
    counts = torch.arange(1, length + 1, dtype=x.dtype, device=x.device)
    return x.cumsum(1) / counts[:, None]


@lru_cache(maxsize=16)
def _mean_operator(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the (L, L) matrix whose row t averages positions 0..t."""
    with torch.inference_mode(False):  # cached: must also serve a later call that trains
        counts = torch.arange(1, length + 1, dtype=dtype, device=device)
        return torch.ones(length, length, dtype=dtype, device=device).tril() / counts[:, None]
