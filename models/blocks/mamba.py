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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.layers import WindowDropout, causal_conv, gated_rms_norm
from models.blocks.ssd import ssd
from models.spec.specs import SsmStart

try:
    from models.cpu import fused
except ImportError:  # without numba, or without that folder, every block takes the composed form
    fused = None  # type: ignore[assignment]

DT_RANGE = (1.0e-3, 0.1)
"""Step sizes at the start, log-uniform (the paper's)."""
A_RANGE = (1.0, 16.0)
"""Decay rates at the start, uniform (the paper's)."""
MEMORY_CONTRAST = 2.0
"""Of a layer that starts as a memory: B and C are so much larger, so that SiLU leaves fewer unlike chunks alike."""
MEMORY_LEAK = 0.1
"""What is left of the other taps of its convolution."""
MEMORY_DT_BIAS = (-2.0, 0.54)
"""Its steps before softplus, first head to last: 0.13 to 1."""
MEMORY_RATE = 0.02
"""Its decay rate: at step 1 a chunk has lost half after 35 positions."""


def takes_fused_form(u: Tensor, weight: Tensor) -> bool:
    """Say whether u (B, L, d) with weights of that type goes through the compiled form of a CPU."""
    return fused is not None and fused.takes(u, weight)


class MambaBlock(nn.Module):
    """One SSD block without its residual connection and pre-norm: about 3 * expand * d_model ** 2 parameters."""

    def __init__(  # noqa: PLR0917  (sizes in the paper's order)
        self,
        d_model: int,
        d_state: int,
        d_conv: int = 4,
        expand: int = 2,
        head_dim: int = 64,
        dropout: float = 0.0,
        start: SsmStart = "paper",
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state, self.head_dim = d_state, head_dim
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
        if start == "recall":
            self.start_as_memory()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise what is particular to the state space model, as in the paper."""
        self.conv_weight.uniform_(-1.0, 1.0).mul_(1.0 / math.sqrt(len(self.conv_weight)))
        self.A_log.uniform_(*A_RANGE).log_()
        dt = torch.empty_like(self.dt_bias).uniform_(math.log(DT_RANGE[0]), math.log(DT_RANGE[1])).exp_()
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus

    @torch.no_grad()
    def start_as_memory(self) -> None:
        """Let the state store every chunk under the one before it, and be read by the present one.

        B and C start with the same projection, so chunks that are alike have a large B . C; B is taken one position
        back by the convolution; decays are slow and steps long. That a state space model should start as an attention
        over what it has seen is the idea of arXiv 2410.11135; the position back is ours.
        """
        inner, state = self.d_inner, self.d_state
        weight = self.in_proj.weight  # rows for z, x, B, C, dt
        B = weight[2 * inner : 2 * inner + state].mul_(MEMORY_CONTRAST)
        weight[2 * inner + state : 2 * (inner + state)] = B
        self.conv_weight.mul_(MEMORY_LEAK)
        newest, before = self.conv_weight[-1], self.conv_weight[-2]
        newest[:inner] += 1.0
        before[inner : inner + state] += 1.0
        newest[inner + state :] += 1.0
        self.dt_bias.copy_(torch.linspace(*MEMORY_DT_BIAS, self.num_heads))
        self.A_log.fill_(math.log(MEMORY_RATE))

    def forward(self, u: Tensor) -> Tensor:
        """Map u (B, L, d_model) to (B, L, d_model), causally.

        Short windows on a CPU go through the fused form, everything else through the composed one. Their results are
        equal up to rounding. The fused form works on memory in the order (d_model, L, B). It returns its output in that
        order, and does not copy an input that has it.
        """
        if not takes_fused_form(u, self.norm_weight):
            return self.forward_composed(u)
        weights = fused.Weights(
            in_proj=self.in_proj.weight,
            conv_weight=self.conv_weight,
            conv_bias=self.conv_bias,
            dt_bias=self.dt_bias,
            A_log=self.A_log,
            D=self.D,
            norm_weight=self.norm_weight,
            out_proj=self.out_proj.weight,
        )
        dropped: Tensor = self.dropout(fused.fused_block(u.permute(2, 1, 0), weights).permute(2, 1, 0))
        return dropped

    def forward_composed(self, u: Tensor) -> Tensor:
        """Compute the same with torch's own operations, for any length and device."""
        widths = [self.d_inner, self.d_conv_channels, self.num_heads]
        z, xBC, dt = torch.split(self.in_proj(u), widths, dim=-1)
        dt = F.softplus(dt.to(self.dt_bias.dtype) + self.dt_bias)  # float32 at least, positive
        xBC = F.silu(causal_conv(xBC, self.conv_weight, self.conv_bias))
        x, B, C = torch.split(xBC, [self.d_inner, self.d_state, self.d_state], dim=-1)
        A = -torch.exp(self.A_log)  # stored as a logarithm, so that it stays negative
        y = ssd(x.view(*x.shape[:-1], self.num_heads, self.head_dim), dt, A, B, C, self.D)  # (B, L, H, P)
        normed = gated_rms_norm(y.flatten(2), z, self.norm_weight)
        dropped: Tensor = self.dropout(self.out_proj(normed))
        return dropped
