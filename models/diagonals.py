"""Causal sequence mixing along diagonals, with hand-written gradients, for short lengths in channel-major memory.

Diagonal k of an (L, L) matrix couples position t with t - k. A list of L tensors holds the lower triangle: the k-th
is (..., L-k, B), its row i for t = k + i. Every operation is a handful of elementwise passes over whole slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Diagonals = Sequence[Tensor]

CACHED_VALUES = 192 * 1024
"""How many products are made before they are summed: these still lie in a 2 MB cache. Measured best of 80 to 650 k."""


def mix(diagonals: Diagonals, x: Tensor) -> Tensor:
    """Return y[h, p, t, b] = sum over k of diagonals[k][h, t, b] * x[h, p, t-k, b]; x (H, P, L, B)."""
    length = x.shape[2]
    y = x * diagonals[0][:, None]
    for k in range(1, length):
        y[:, :, k:].addcmul_(diagonals[k][:, None], x[:, :, : length - k])
    return y


def mix_backward(grad: Tensor, diagonals: Diagonals, x: Tensor, out: Tensor) -> list[Tensor]:
    """Write the gradient for x into `out` (H, P, L, B) and return the gradients for the diagonals."""
    length = x.shape[2]
    torch.mul(grad, diagonals[0][:, None], out=out)
    for k in range(1, length):
        out[:, :, : length - k].addcmul_(diagonals[k][:, None], grad[:, :, k:])
    d_diagonals = [torch.empty_like(diagonal) for diagonal in diagonals]
    heads = max(1, CACHED_VALUES // x[0].numel())
    buffer = torch.empty_like(x[:heads])
    for start in range(0, x.shape[0], heads):
        late, early = grad[start : start + heads], x[start : start + heads]
        for k in range(length):
            products = torch.mul(late[:, :, k:], early[:, :, : length - k], out=buffer[: late.shape[0], :, k:])
            torch.sum(products, 1, out=d_diagonals[k][start : start + heads])
    return d_diagonals


def dot(left: Tensor, right: Tensor) -> list[Tensor]:
    """Return the diagonals sum over n of left[n, t, b] * right[n, t-k, b]; both (N, L, B)."""
    length = left.shape[1]
    return [(left[:, k:] * right[:, : length - k]).sum(0) for k in range(length)]


def dot_backward(grads: Diagonals, left: Tensor, right: Tensor, d_left: Tensor, d_right: Tensor) -> None:
    """Write the gradients for both factors of `dot` into `d_left` and `d_right` (N, L, B)."""
    length = left.shape[1]
    torch.mul(right, grads[0], out=d_left)
    torch.mul(left, grads[0], out=d_right)
    for k in range(1, length):
        d_left[:, k:].addcmul_(grads[k], right[:, : length - k])
        d_right[:, : length - k].addcmul_(grads[k], left[:, k:])


def decays(step: Tensor) -> list[Tensor]:
    """Return the diagonals step[t] * step[t-1] * ... * step[t-k+1], ones for k = 0; step (H, L, B) in [0, 1]."""
    length = step.shape[1]
    diagonals = [torch.ones_like(step)]
    for k in range(1, length):
        diagonals.append(diagonals[-1][:, 1:] * step[:, 1 : length - k + 1])
    return diagonals


def decays_backward(log_grads: Diagonals) -> Tensor:
    """Return the gradient for log(step) (H, L, B), given for each diagonal gradient times value.

    Diagonal k at position t holds the logarithms of positions t-k+1 .. t, so each of them gets its gradient.
    """
    total = torch.zeros_like(log_grads[0])
    length = total.shape[1]
    for k in range(1, length):
        for back in range(k):
            total[:, k - back : length - back].add_(log_grads[k])
    return total
