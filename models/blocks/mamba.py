"""The Mamba-2 block: input projection, short causal convolution, state space model, gated norm, output projection.

    u (B, L, d_model)
      in_proj  -> z (B, L, d_inner) | x, B, C (B, L, d_inner + 2 N) | dt (B, L, H)
      x, B, C  -> depthwise causal convolution -> SiLU
      ssd      -> y (B, L, d_inner)
      RMSNorm(y * SiLU(z)) -> out_proj -> (B, L, d_model)

Source: Mamba-2, arXiv 2405.21060, section 7 and figure 6 (parallel projections, norm before the output projection).
Letters: B batch, L length, H heads, P head_dim, N d_state, K taps of the convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import UserError
from models.blocks.layers import WindowDropout, causal_conv, gated_rms_norm
from models.blocks.ssd import ssd, ssd_reference, ssd_step
from models.cpu.fused import Weights, fused_block, takes

__all__ = ["MambaBlock", "MambaState", "ssd", "ssd_reference"]

DT_RANGE = (1.0e-3, 0.1)
"""Step sizes at the start, log-uniform (the paper's)."""
A_RANGE = (1.0, 16.0)
"""Decay rates at the start, uniform (the paper's)."""


@dataclass(frozen=True)
class MambaState:
    """What one block remembers between tokens: the convolution's last K-1 inputs and the state of the model."""

    conv: Tensor  # (B, K - 1, d_inner + 2 N), oldest first
    ssm: Tensor  # (B, H, P, N)


class MambaBlock(nn.Module):
    """One SSD block without its residual connection and pre-norm.

    About 3 * expand * d_model ** 2 parameters. `forward` takes whole sequences, `step` one token with a state.
    """

    def __init__(  # noqa: PLR0917  (sizes in the paper's order)
        self,
        d_model: int,
        d_state: int,
        d_conv: int = 4,
        expand: int = 2,
        head_dim: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        if self.d_inner % head_dim:
            raise UserError(
                f"MambaBlock: expected expand * d_model ({expand} * {d_model}) divisible by head_dim {head_dim}, "
                f"got {self.d_inner}; choose another d_model or head_dim"
            )
        self.d_state, self.d_conv, self.head_dim = d_state, d_conv, head_dim
        self.num_heads = self.d_inner // head_dim
        self.d_conv_channels = self.d_inner + 2 * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + self.d_conv_channels + self.num_heads, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(d_conv, self.d_conv_channels))  # (K, channels): a row is a tap
        self.conv_bias = nn.Parameter(torch.zeros(self.d_conv_channels))
        self.dt_bias = nn.Parameter(torch.empty(self.num_heads))
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.norm_weight = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.dropout = WindowDropout(dropout)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise what is particular to the state space model, as in the paper."""
        self.conv_weight.uniform_(-1.0, 1.0).mul_(1.0 / math.sqrt(self.d_conv))
        self.A_log.uniform_(*A_RANGE).log_()
        dt = torch.empty_like(self.dt_bias).uniform_(math.log(DT_RANGE[0]), math.log(DT_RANGE[1])).exp_()
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus

    def forward(self, u: Tensor) -> Tensor:
        """Map u (B, L, d_model) to (B, L, d_model), causally.

        Short windows on a CPU take the fused form, all else the composed one; they differ by rounding alone. The fused
        form works on memory of order (d_model, L, B): an input that lies so is not copied, and the output lies so.
        """
        if takes(u, self.norm_weight):
            dropped: Tensor = self.dropout(fused_block(u.permute(2, 1, 0), self._weights()).permute(2, 1, 0))
            return dropped
        return self.forward_composed(u)

    def forward_composed(self, u: Tensor) -> Tensor:
        """Do the same with library operations, for any length and device."""
        z, xBC, dt = self._project(u)
        xBC = F.silu(causal_conv(xBC, self.conv_weight, self.conv_bias))
        x, B, C = self._split_conv(xBC)
        y = ssd(x, dt, self._decay_rates(), B, C, self.D)  # (B, L, H, P)
        return self._output(y.flatten(2), z)

    def _weights(self) -> Weights:
        return Weights(
            in_proj=self.in_proj.weight,
            conv_weight=self.conv_weight,
            conv_bias=self.conv_bias,
            dt_bias=self.dt_bias,
            A_log=self.A_log,
            D=self.D,
            norm_weight=self.norm_weight,
            out_proj=self.out_proj.weight,
        )

    def initial_state(self, batch: int) -> MambaState:
        """Return the state before the first token."""
        like = self.norm_weight
        return MambaState(
            conv=like.new_zeros(batch, self.d_conv - 1, self.d_conv_channels),
            ssm=like.new_zeros(batch, self.num_heads, self.head_dim, self.d_state),
        )

    def step(self, u: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Map one token u (B, d_model) and the state before it to (B, d_model) and the state after it."""
        z, xBC, dt = self._project(u[:, None])
        recent = torch.cat([state.conv, xBC], dim=1)  # (B, K, channels)
        mixed = F.silu((recent * self.conv_weight).sum(1, keepdim=True) + self.conv_bias)  # (B, 1, channels)
        x, B, C = self._split_conv(mixed)
        y, ssm = ssd_step(x[:, 0], dt[:, 0], self._decay_rates(), B[:, 0], C[:, 0], self.D, state.ssm)
        return self._output(y.flatten(1)[:, None], z)[:, 0], MambaState(conv=recent[:, 1:], ssm=ssm)

    def _project(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z, the convolution's input and dt (float32 at least, positive)."""
        widths = [self.d_inner, self.d_conv_channels, self.num_heads]
        z, xBC, dt = torch.split(self.in_proj(u), widths, dim=-1)
        return z, xBC, F.softplus(dt.to(self.dt_bias.dtype) + self.dt_bias)

    def _split_conv(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, B, C = torch.split(xBC, [self.d_inner, self.d_state, self.d_state], dim=-1)
        return x.view(*x.shape[:-1], self.num_heads, self.head_dim), B, C

    def _decay_rates(self) -> Tensor:
        return -torch.exp(self.A_log)  # stored as a logarithm, so that it stays negative

    def _output(self, y: Tensor, z: Tensor) -> Tensor:
        normed: Tensor = self.out_proj(gated_rms_norm(y, z, self.norm_weight))
        dropped: Tensor = self.dropout(normed)
        return dropped
