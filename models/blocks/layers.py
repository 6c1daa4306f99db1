"""Small pieces shared by the blocks: the short convolution, the gated norm, dropout by window."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.spec.specs import NORM_EPS


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the depthwise causal convolution y[t] = bias + sum over k of weight[K-1-k] * x[t-k].

    It is one shifted multiply-add for each tap; a library's convolution would first rearrange the memory.

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


def channel_major(x: Tensor) -> bool:
    """Say whether x (B, L, d) is stored in the order (d, L, B), the best one for the fused blocks on a CPU."""
    return x.permute(2, 1, 0).is_contiguous()


def rms_norm(x: Tensor) -> Tensor:
    """Return x (B, L, d) divided by its root mean square over d, in the memory order of x.

    It has no weight, since a projection follows every such norm and can scale the columns itself.
    """
    if x.device.type == "cpu" and channel_major(x):
        out: Tensor = _ChannelNorm.apply(x.permute(2, 1, 0))  # type: ignore[no-untyped-call]
        return out.permute(2, 1, 0)
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPS)


class _ChannelNorm(torch.autograd.Function):
    """RMS norm over the first axis of (d, L, B); torch's own kernel would first copy x into another order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(0) + NORM_EPS)  # (L, B)
        normed = x * scale
        ctx.save_for_backward(normed, scale)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        normed, scale = ctx.saved_tensors
        along = (grad * normed).mean(0)  # the result does not depend on the length of x: remove the part along x
        result: Tensor = torch.addcmul(grad, normed, along, value=-1.0).mul_(scale)
        return result


def random_mask(size: int, keep: float) -> Tensor:
    """Return `size` float32 values on the CPU: 1 / keep with chance keep, else 0, keep rounded to 1/256.

    Each 64-bit random number gives eight values: three times as fast as torch's own generator of masks.
    """
    threshold = min(255, max(1, round(256 * keep)))
    words = torch.randint(-(2**63), 2**63 - 1, ((size + 7) // 8,))
    return (words.view(torch.uint8)[:size] < threshold).float().mul_(256 / threshold)


class WindowDropout(nn.Module):
    """Dropout with one mask for each window and channel, the same at all positions of the window.

    Such a mask is usual in recurrent networks (Gal & Ghahramani, arXiv 1512.05287). It also needs L times fewer random
    numbers; on a CPU these would take longer than all other elementwise work of the layer.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of the channels of x (B, L, d) to zero in training and scale up the rest."""
        if not self.training or self.share == 0.0:
            return x
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        """Return a mask (B, 1, d) in the memory order of x; its entries are 0 or 1 / (1 - share)."""
        keep = 1.0 - self.share
        batch, _, width = x.shape
        if x.device.type == "cpu" and channel_major(x):
            return random_mask(batch * width, keep).view(width, 1, batch).permute(2, 1, 0).to(x.dtype)
        return torch.empty(batch, 1, width, dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Show the share when the module is printed."""
        return f"share={self.share}"
