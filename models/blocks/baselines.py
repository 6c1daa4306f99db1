"""The learned baselines, trained as the variants are.

AMN is at every position an attention over the chunks so far, queried by their mean:

query  = norm(W_q' mean of positions 0..t)     memory = norm(W_m chunk)
attended = causal attention(query, memory)
hidden = MLP([attended, query])                prediction = unit(mean + W hidden)

The linear one is a linear map of the last chunks, all of it trained. What it finds, a variant finds without its layers:
by the loss, or by the base that it is added to.

hidden = the chunks at t, t - 1, ...             prediction = unit(base + W hidden)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.corruption import ContextCorruption, RandomRotation
from models.blocks.head import HeadInput, PredictionHead, last_chunks, prefix_mean
from models.blocks.layers import WindowDropout, rms_norm
from models.spec.specs import AmnSpec, LinearSpec


class Amn(nn.Module):
    """The attention baseline as a causal map (B, L, D) -> (B, L, D)."""

    def __init__(self, spec: AmnSpec, dim: int) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        d = spec.d_model
        self.corruption = ContextCorruption(spec.context_dropout, spec.span_corruption)
        self.rotation = RandomRotation(spec.rotation, dim)
        self.query_embed = nn.Linear(dim, d, bias=False)
        self.memory_embed = nn.Linear(dim, d, bias=False)
        self.q_proj = nn.Linear(d, d, bias=False)
        self.kv_proj = nn.Linear(d, 2 * d, bias=False)
        self.out_proj = nn.Linear(d, d, bias=False)
        self.mlp_in = nn.Linear(2 * d, spec.mlp_ratio * d, bias=False)
        self.mlp_out = nn.Linear(spec.mlp_ratio * d, d, bias=False)
        self.dropout = WindowDropout(spec.dropout)
        self.head = PredictionHead(d, dim, spec.residual, direct_chunks=spec.direct_chunks)

    def forward(self, context: Tensor) -> Tensor:
        """Map the context's unit vectors (B, L, D) to predictions (B, L, D), float32, unit norm."""
        predictions: Tensor = self.head(*self.encode(context))
        return predictions

    def encode(self, context: Tensor) -> HeadInput:
        """Map the context's unit vectors (B, L, D) to what the head predicts from."""
        context = self.corruption(context)
        seen, rotations = self.rotation(context)
        scale = math.sqrt(self.dim)  # unit rows to unit variance
        query = rms_norm(self.query_embed(prefix_mean(seen) * scale))  # (B, L, d)
        memory = rms_norm(self.memory_embed(seen * scale))
        mixed = rms_norm(self._attend(query, memory))
        hidden = self.mlp_out(F.gelu(self.mlp_in(torch.cat([mixed, query], dim=-1))))
        return query + self.dropout(hidden), context, rotations

    def _attend(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return the causal attention of the queries over the memory (B, L, d)."""
        parts = (self.q_proj(query), *self.kv_proj(memory).chunk(2, dim=-1))
        q, k, v = (part.unflatten(-1, (self.spec.num_heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class Linear(nn.Module):
    """The linear baseline as a causal map (B, L, D) -> (B, L, D)."""

    def __init__(self, spec: LinearSpec, dim: int) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        self.corruption = ContextCorruption(spec.context_dropout, spec.span_corruption)
        self.rotation = RandomRotation(spec.rotation, dim)
        self.dropout = WindowDropout(spec.dropout)
        self.head = PredictionHead(spec.num_chunks * dim, dim, spec.residual, norm=False)

    def forward(self, context: Tensor) -> Tensor:
        """Map the context's unit vectors (B, L, D) to predictions (B, L, D), float32, unit norm."""
        predictions: Tensor = self.head(*self.encode(context))
        return predictions

    def encode(self, context: Tensor) -> HeadInput:
        """Map the context's unit vectors (B, L, D) to what the head predicts from."""
        context = self.corruption(context)
        seen, rotations = self.rotation(context)
        return self.dropout(last_chunks(seen, self.spec.num_chunks)), context, rotations
