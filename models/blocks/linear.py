"""The linear baseline: a linear map of the last chunks, trained as the variants are.

What it finds, a variant finds without its layers: by the loss, the base that it is added to, or the corruption of its
inputs. hidden at t = sum over lags of U_lag chunk at t - lag     prediction = unit(base + W hidden)
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.corruption import ContextCorruption, RandomRotation
from models.blocks.head import PredictionHead
from models.blocks.layers import WindowDropout
from models.spec.specs import LinearSpec


class Linear(nn.Module):
    """The linear baseline as a causal map (B, L, D) -> (B, L, D)."""

    def __init__(self, spec: LinearSpec, dim: int) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        self.corruption = ContextCorruption(spec.context_dropout, spec.span_corruption)
        self.rotation = RandomRotation(spec.rotation, dim)
        self.lags = nn.ModuleList(nn.Linear(dim, spec.d_model, bias=False) for _ in range(spec.num_chunks))
        self.dropout = WindowDropout(spec.dropout)
        self.head = PredictionHead(spec.d_model, dim, spec.residual, norm=False)

    def forward(self, context: Tensor) -> Tensor:
        """Map the context's unit vectors (B, L, D) to predictions (B, L, D), float32, unit norm."""
        context = self.corruption(context)
        seen, rotations = self.rotation(context)
        seen = seen * math.sqrt(self.dim)  # unit rows to unit variance
        length = seen.shape[1]
        hidden: Tensor = self.lags[0](seen)
        for lag, matrix in enumerate(self.lags[1:length], start=1):
            hidden = hidden + F.pad(matrix(seen[:, : length - lag]), (0, 0, lag, 0))
        predictions: Tensor = self.head(self.dropout(hidden), context, rotations)
        return predictions
