"""Small pieces shared by the blocks: the short convolution, the gated norm, dropout by window."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1.0e-5


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the depthwise causal convolution y[t] = bias + sum over k of weight[K-1-k] * x[t-k].

    As shifted multiply-adds: one pass a tap over memory that a library convolution would first have to rearrange.

    x (B, L, C), weight (K, C) with the newest position's tap last, bias (C,); returns (B, L, C).
    """
    taps, length = weight.shape[0], x.shape[1]
    y = torch.addcmul(bias, x, weight[-1])
    for back in range(1, min(taps, length)):
        y[:, back:].addcmul_(x[:, :-back], weight[-1 - back])
    return y


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """Return RMSNorm(y * SiLU(z)) * weight over the last axis; y and z (..., C), weight (C,)."""
    return F.rms_norm(y * F.silu(z), (weight.shape[0],), weight, NORM_EPS)


class WindowDropout(nn.Module):
    """Dropout whose mask is drawn once a window and channel and shared by the window's positions.

    The mask is that of recurrent networks (Gal & Ghahramani, arXiv 1512.05287) and needs L times fewer random numbers,
    which on a CPU cost more than the rest of the layer's elementwise work.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of the channels of x (B, L, d) while training, and scale up the rest."""
        if not self.training or self.share == 0.0:
            return x
        keep = 1.0 - self.share
        mask = torch.empty(x.shape[0], 1, x.shape[2], dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)
        return x * mask

    def extra_repr(self) -> str:
        """Show the share when the module is printed."""
        return f"share={self.share}"
