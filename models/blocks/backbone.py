"""The layers of every Mamba variant: embedding, residual layers with a norm first, prediction head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.blocks.attention import LocalAttention
from models.blocks.corruption import ContextCorruption, RandomRotation
from models.blocks.head import HeadInput, PredictionHead
from models.blocks.layers import rms_norm
from models.blocks.mamba import MambaBlock, takes_fused_form
from models.spec.specs import AttentionSpec, LayerKind, MambaGRSpec, MambaSpec


class ResidualLayer(nn.Module):
    """x + block(norm(x)), or x + gate(norm(x)) * block(norm(x))."""

    def __init__(self, block: nn.Module, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, L, d_model) to the same shape."""
        normed = rms_norm(x)
        update: Tensor = self.block(normed)
        if self.gate is not None:
            update = update * self.gate(normed)
        return x + update


class GruGate(nn.Module):
    """A gate in (0, 1) for every channel, from a GRU over the positions."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(d_model, hidden, batch_first=True)
        self.proj = nn.Linear(hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, L, d_model) to gates (B, L, d_model)."""
        return torch.sigmoid(self.proj(self.gru(x)[0]))


class Backbone(nn.Module):
    """A Mamba variant as a causal map (B, L, D) -> (B, L, D)."""

    def __init__(self, spec: MambaSpec, dim: int) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        self.corruption = ContextCorruption(spec.context_dropout, spec.span_corruption)
        self.rotation = RandomRotation(spec.rotation, dim)
        self.embed = nn.Linear(dim, spec.d_model)
        self.layers = nn.ModuleList(_build_layer(spec, kind) for kind in spec.layers())
        self.head = PredictionHead(spec.d_model, dim, spec.residual, direct_chunks=spec.direct_chunks)
        self._scale_down_outputs()

    def forward(self, context: Tensor) -> Tensor:
        """Map the context's unit vectors (B, L, D) to predictions (B, L, D), float32, unit norm."""
        predictions: Tensor = self.head(*self.encode(context))
        return predictions

    def encode(self, context: Tensor) -> HeadInput:
        """Map the context's unit vectors (B, L, D) to what the head predicts from."""
        context = self.corruption(context)
        seen, rotations = self.rotation(context)
        hidden = self._embed(seen)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden, context, rotations

    def _embed(self, context: Tensor) -> Tensor:
        """Return the layers' input (B, L, d_model), in the memory order in which the blocks are fastest."""
        scale = math.sqrt(self.dim)  # unit rows to unit variance
        if not takes_fused_form(context, self.embed.weight):
            hidden: Tensor = self.embed(context * scale)
            return hidden
        batch, length, dim = context.shape
        tokens = context.transpose(0, 1).reshape(length * batch, dim)
        flat = torch.addmm(self.embed.bias[:, None], self.embed.weight, tokens.t(), alpha=scale)  # (d_model, L*B)
        return flat.view(-1, length, batch).permute(2, 1, 0)

    @torch.no_grad()
    def _scale_down_outputs(self) -> None:
        """Divide each block's last projection by the root of the depth: their sum then has the variance of one."""
        for name, weight in self.named_parameters():
            if name.endswith("block.out_proj.weight"):
                weight.div_(math.sqrt(len(self.layers)))


def _build_layer(spec: MambaSpec, kind: LayerKind) -> ResidualLayer:
    if kind == "attention":
        assert isinstance(spec, AttentionSpec)
        return ResidualLayer(LocalAttention(spec.d_model, spec.num_heads, spec.window, spec.dropout))
    sizes = (spec.d_model, spec.d_state, spec.d_conv, spec.expand, spec.head_dim)
    block = MambaBlock(*sizes, dropout=spec.dropout, start=spec.ssm_start)
    if kind == "ssm":
        return ResidualLayer(block)
    assert isinstance(spec, MambaGRSpec)
    return ResidualLayer(block, GruGate(spec.d_model, spec.gru_hidden))
