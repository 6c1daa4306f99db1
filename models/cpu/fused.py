"""The Mamba-2 block for short windows on a CPU: one autograd function, forward and backward written by hand.

It computes the same as `MambaBlock.forward_composed`: a test compares the output and every gradient. It exists because
at L = 5 much of a block's time is spent on elementwise work that waits for memory. It saves that time in four ways:

- Tensors are channel-major, (channels, L, B). The parts of the projection and of its gradient are then contiguous.
  Nothing is split, joined or copied, and a shift by k positions is another row.
- Between the two projections `models.cpu.kernels` does all steps of one channel before it starts the next channel.
- Of the large tensors only the projection and its gated result are kept for the backward pass.
- The norm multiplies each token by one number, so it is applied after the output projection, where columns are shorter.
  Its weight is multiplied into the projection's weight. Its gradient needs only the products (d out . out).

Letters: d d_model, I d_inner, N d_state, H heads, P head_dim, K taps, L positions, B windows, T = L * B,
Q = L (L + 1) / 2 pairs of positions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.cpu import kernels
from models.spec.specs import NORM_EPS

MAX_LENGTH = 64
"""Longest window that takes the fused form: its cost grows with the pairs of positions, L * L."""
MIN_WINDOWS = 16
"""Fewer at a time are left to torch's operations: one query alone takes them half the time or less."""


class Weights(NamedTuple):
    """The block's parameters, in the order of the function's arguments."""

    in_proj: Tensor  # (2 I + 2 N + H, d): rows for z, x, B, C, dt
    conv_weight: Tensor  # (K, I + 2 N), newest position last
    conv_bias: Tensor  # (I + 2 N,)
    dt_bias: Tensor  # (H,)
    A_log: Tensor  # (H,)
    D: Tensor  # (H,)
    norm_weight: Tensor  # (I,)
    out_proj: Tensor  # (d, I)


def takes(u: Tensor, weight: Tensor) -> bool:
    """Say whether the fused form can take u (B, L, d) with weights of that type."""
    fits = u.shape[0] >= MIN_WINDOWS and u.shape[1] <= MAX_LENGTH
    return u.device.type == "cpu" and fits and weight.dtype in {torch.float32, torch.float64}


def fused_block(u: Tensor, weights: Weights) -> Tensor:
    """Map u (d, L, B) to (d, L, B), in the weights' dtype; under autocast float32 weights multiply in bfloat16.

    Weights of float64 stay as they are, as with torch's own operations under autocast.
    """
    low = torch.is_autocast_enabled(u.device.type) and weights.in_proj.dtype == torch.float32
    with torch.autocast(u.device.type, enabled=False):
        out: Tensor = _FusedBlock.apply(u.to(weights.in_proj.dtype).contiguous(), low, *weights)  # type: ignore[no-untyped-call]
        return out


class _FusedBlock(torch.autograd.Function):
    """Forward and backward of the block; see the module's head for the notation."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, low: bool, *parameters: Tensor) -> Tensor:
        w = Weights(*parameters)
        inner, num_heads = w.norm_weight.shape[0], w.D.shape[0]
        low_u, low_in = rounded(u.view(u.shape[0], -1), low), rounded(w.in_proj, low)
        projected = torch.mm(low_in, low_u).view(-1, *u.shape[1:])  # (2 I + 2 N + H, L, B)
        dt = F.softplus(projected[-num_heads:].to(u.dtype) + w.dt_bias[:, None, None])  # (H, L, B)
        scores, decays, mixing = mixing_matrix(projected, dt, w)
        gated, squares = mix_and_gate(projected, mixing, w)
        scale = torch.rsqrt(squares / inner + NORM_EPS).flatten()  # (T,)
        low_out = rounded(w.out_proj * w.norm_weight, low)
        out = torch.mm(low_out, gated.view(inner, -1)).to(u.dtype).mul_(scale)  # (d, T)
        ctx.low, ctx.shape = low, u.shape
        ctx.save_for_backward(
            *(low_u, low_in, gated, low_out, projected, dt, scores, decays, mixing, scale, out),
            *parameters,
        )
        return out.view(u.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        low_u, low_in, gated, low_out, projected, dt, scores, decays, mixing, scale, out, *parameters = (
            ctx.saved_tensors
        )
        w = Weights(*parameters)
        inner, num_heads = w.norm_weight.shape[0], w.D.shape[0]
        grad = grad.reshape(out.shape)
        low_grad = rounded(grad * scale, ctx.low)
        d_gated = torch.mm(low_out.t(), low_grad).view(inner, *ctx.shape[1:])
        along = through_norm(grad, out, scale, inner).view(ctx.shape[1:])
        d_projected, d_dt, d_conv, d_bias, d_A_log, d_D = ssm_backward(
            d_gated, along, projected, dt, scores, decays, mixing, w
        )
        d_raw = d_dt.mul_(-torch.expm1(-dt))  # the derivative of softplus(raw) is 1 - exp(-softplus(raw))
        d_projected[-num_heads:] = d_raw
        low_d = d_projected.view(len(d_projected), -1)
        d_in_proj = torch.mm(low_d, low_u.t()).to(grad.dtype)
        d_u = torch.mm(low_in.t(), low_d).to(grad.dtype).view(ctx.shape)
        d_weighted = torch.mm(low_grad, gated.view(inner, -1).t()).to(grad.dtype)  # for out_proj * norm_weight
        small = (d_conv, d_bias, d_raw.sum((1, 2)), d_A_log, d_D, (d_weighted * w.out_proj).sum(0))
        return d_u, None, d_in_proj, *small, d_weighted.mul_(w.norm_weight)


def rounded(factor: Tensor, low: bool) -> Tensor:
    """Return a factor of a matrix product in bfloat16 with `low`, else as it is."""
    return factor.bfloat16() if low else factor


def arrays(*tensors: Tensor) -> list[np.ndarray[Any, Any]]:
    """Return the tensors as arrays that share their memory; bfloat16 as int16 with the same bits."""
    return [(t.detach().view(torch.int16) if t.dtype == torch.bfloat16 else t.detach()).numpy() for t in tensors]


def mixing_matrix(projected: Tensor, dt: Tensor, w: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores (Q, B), the decays and the matrix M (H, Q, B); see `models.cpu.kernels`."""
    num_heads, length, windows = dt.shape
    pairs = length * (length + 1) // 2
    scores = dt.new_zeros(pairs, windows)
    kernels.score_pairs(w.norm_weight.shape[0], *arrays(projected, w.conv_weight, w.conv_bias, scores))
    step = torch.exp(dt * -torch.exp(w.A_log)[:, None, None])
    decays, mixing = dt.new_empty(2, num_heads, pairs, windows).unbind()
    kernels.mixing_matrix(*arrays(scores, dt, step, w.D, decays, mixing))
    return scores, decays, mixing


def mix_and_gate(projected: Tensor, mixing: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
    """Return the gated result (I, L, B) and the sum of its squares over the channels (L, B)."""
    shape = projected.shape[1:]
    gated = projected.new_empty(w.norm_weight.shape[0], *shape)
    ranges = head_ranges(w.D.shape[0])
    squares = mixing.new_zeros(len(ranges), *shape)  # one sum a thread
    inputs, sums = arrays(projected, w.conv_weight, w.conv_bias, mixing, gated), squares.numpy()
    in_threads(lambda part, first, last: kernels.mix_and_gate(first, last, *inputs, *sums[part : part + 1]), ranges)
    return gated, squares.sum(0)


def ssm_backward(  # noqa: PLR0917  (tensors of the formulas, in their order)
    d_gated: Tensor,
    along: Tensor,
    projected: Tensor,
    dt: Tensor,
    scores: Tensor,
    decays: Tensor,
    mixing: Tensor,
    w: Weights,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients for the projection (its rows dt not yet written), dt, taps, their bias, A_log and D."""
    d_projected, d_mixing = torch.empty_like(projected), torch.zeros_like(mixing)
    d_conv, d_bias = torch.empty_like(w.conv_weight), torch.empty_like(w.conv_bias)
    before = arrays(projected, w.conv_weight, w.conv_bias)
    after = arrays(mixing, d_gated, along, d_projected, d_mixing, d_conv, d_bias)
    in_threads(
        lambda _, first, last: kernels.mix_and_gate_backward(first, last, *before, *after), head_ranges(len(w.D))
    )
    A = -torch.exp(w.A_log)
    d_scores, d_dt, d_A, d_D = (torch.zeros_like(value) for value in (scores, dt, A, w.D))
    kernels.mixing_matrix_backward(*arrays(d_mixing, scores, dt, decays, A, d_scores, d_dt, d_A, d_D))
    kernels.score_pairs_backward(w.norm_weight.shape[0], *before, *arrays(d_scores, d_projected, d_conv, d_bias))
    return d_projected, d_dt, d_conv, d_bias, d_A.mul_(A), d_D


def in_threads(run: Callable[[int, int, int], None], ranges: list[tuple[int, int]]) -> None:
    """Call run(number, first, last) for every range, in threads if there are several."""
    if len(ranges) == 1:
        run(0, *ranges[0])
        return
    for future in [_threads().submit(run, number, *heads) for number, heads in enumerate(ranges)]:
        future.result()


def head_ranges(num_heads: int) -> list[tuple[int, int]]:
    """Cut the heads into one range (first, last) for each of torch's threads, but not more ranges than heads."""
    parts = min(torch.get_num_threads(), num_heads)
    edges = [num_heads * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="heads")


def through_norm(grad: Tensor, out: Tensor, scale: Tensor, inner: int) -> Tensor:
    """Return the factor (T,) of each token's gated values (I, T) in their gradient through the norm.

    With v = W gated and out = scale v, scale = (mean gated ** 2 + eps) ** -1/2, the gradient for gated is
    W^T (scale grad) - gated * scale ** 2 * (grad . out) / I, since d scale / d gated = -scale ** 3 gated / I.
    """
    return (grad * out).sum(0).mul_(scale.square()).div_(-inner)
