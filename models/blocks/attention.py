"""Local attention: each position attends to itself and the `window - 1` positions before it."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.layers import WindowDropout


class LocalAttention(nn.Module):
    """Multi-head causal sliding-window attention without its residual connection and pre-norm.

    4 * d_model ** 2 parameters: one projection for queries, keys and values, one for the output.
    """

    def __init__(self, d_model: int, num_heads: int, window: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)
        self.dropout = WindowDropout(dropout)

    def forward(self, u: Tensor) -> Tensor:
        """Map u (B, L, d_model) to (B, L, d_model)."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv_proj(u).chunk(3, dim=-1)
        )
        mixed: Tensor = self.dropout(self.out_proj(self.attend(q, k, v).transpose(1, 2).flatten(2)))
        return mixed

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attention of q over k and v, all (B, heads, L, d_head)."""
        length = q.shape[2]
        if length <= self.window:  # plain causal attention is then the same, and faster
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mask = sliding_mask(length, self.window, q.device)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@lru_cache(maxsize=16)
def sliding_mask(length: int, window: int, device: torch.device) -> Tensor:
    """Return (L, L) booleans, true where position t may look at s: t - window < s <= t."""
    with torch.inference_mode(False):  # cached: must also serve a later call that trains
        position = torch.arange(length, device=device)
        back = position[:, None] - position[None, :]
        return (back >= 0) & (back < window)
