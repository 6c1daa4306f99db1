"""The Mamba-2 block for short windows on a CPU: one autograd function, forward and backward written out.

It computes what `MambaBlock.forward_composed` computes; a test holds both together, output and every gradient. It
exists because at L = 5 a block's time goes into elementwise passes, not into its matrix products. What removes them:

- Tensors are channel-major, (channels, L, B): the parts of the projection, and of its gradient, are contiguous blocks,
  so nothing is split, concatenated or copied; a shift by k positions is a slice.
- The convolution is one small Toeplitz matrix a channel, (L, L), in a batched product with (L, B).
- The state space model runs along diagonals: y[t] = sum over k of M_k[t] x[t-k] with
  M_k[t] = (C[t] . B[t-k]) E_k[t] dt[t-k] and decays E_k[t] = E_{k-1}[t] exp(dt[t-k+1] A).
  Products of numbers in [0, 1] cannot overflow, and no state is formed.
- The norm is a scalar a token, so it is applied after the output projection, where columns are shorter, and its weight
  goes into the projection's. Its gradient needs (d out . out) only, not another pass over the inner width.

Letters: d d_model, I d_inner, N d_state, H heads, P head_dim, K taps, L positions, B windows, T = L * B.
"""

# ruff: noqa: PLR0917  (tensors of the formulas, in their order)

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.diagonals import decays, decays_backward, dot, dot_backward, mix, mix_backward
from models.layers import NORM_EPS

MAX_LENGTH = 16
"""Longest window for which the diagonals and the Toeplitz product, both of cost L * L, are worth it."""


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


class Rows(NamedTuple):
    """The projection's output, or its gradient, cut into its parts: views, no copies."""

    z: Tensor  # (I, T)
    mixed: Tensor  # (I + 2 N, L, B): x, B, C before the convolution
    dt: Tensor  # (H, L, B)


def fused_block(u: Tensor, weights: Weights) -> Tensor:
    """Map u (d, L, B) to (d, L, B); under autocast the products are in bfloat16, all else in the weights' dtype."""
    low = torch.is_autocast_enabled(u.device.type)
    with torch.autocast(u.device.type, enabled=False):
        out: Tensor = _FusedBlock.apply(u.to(weights.in_proj.dtype).contiguous(), low, *weights)  # type: ignore[no-untyped-call]
        return out


class _FusedBlock(torch.autograd.Function):
    """Forward and backward of the block; see the module's head for the notation."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, low: bool, *parameters: Tensor) -> Tensor:
        w = Weights(*parameters)
        low_u, low_in = rounded(u.view(u.shape[0], -1), low), rounded(w.in_proj, low)
        projected = torch.mm(low_in, low_u).to(u.dtype)  # (2 I + 2 N + H, T)
        rows = cut(projected, w, u.shape[1:])
        taps = toeplitz(w.conv_weight, u.shape[1])
        before = torch.baddbmm(w.conv_bias[:, None, None], taps, rows.mixed)  # (I + 2 N, L, B)
        after = F.silu(before)
        dt = F.softplus(rows.dt + w.dt_bias[:, None, None])  # (H, L, B)
        x, B, C = heads(after, w)
        scores, faded, mixing = mixing_diagonals(dt, B, C, w)
        y = mix(mixing, x).view(rows.z.shape)
        gate = F.silu(rows.z)
        gated = y * gate  # (I, T)
        scale = torch.rsqrt(gated.square().mean(0) + NORM_EPS)  # (T,)
        low_gated, low_out = rounded(gated, low), rounded(w.out_proj * w.norm_weight, low)
        out = torch.mm(low_out, low_gated).to(u.dtype).mul_(scale)  # (d, T)
        ctx.low, ctx.shape = low, u.shape
        ctx.small = (scores, faded, mixing)  # made in here: no inputs or outputs of the function, so safe to keep
        ctx.save_for_backward(
            *(low_u, low_in, low_gated, low_out, projected, taps, before, after, dt, y, gate, gated, scale, out),
            *parameters,
        )
        return out.view(u.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        low_u, low_in, low_gated, low_out, projected, taps, before, after, *rest = ctx.saved_tensors
        dt, y, gate, gated, scale, out, *parameters = rest
        w = Weights(*parameters)
        rows = cut(projected, w, ctx.shape[1:])
        d_projected = torch.empty_like(projected)
        d_rows = cut(d_projected, w, ctx.shape[1:])
        grad = grad.reshape(out.shape)
        low_grad = rounded(grad * scale, ctx.low)
        d_gated = torch.mm(low_out.t(), low_grad).to(grad.dtype)
        d_gated.addcmul_(gated, through_norm(grad, out, scale, gated.shape[0]))
        torch.mul(d_gated, y, out=d_rows.z)
        torch.ops.aten.silu_backward.grad_input(d_rows.z, rows.z, grad_input=d_rows.z)
        d_y = d_gated.mul_(gate)
        d_after = torch.empty_like(after)
        d_dt, d_A_log, d_D = ssm_backward(d_y, d_after, after, dt, ctx.small, w)
        d_before = torch.ops.aten.silu_backward.grad_input(d_after, before, grad_input=d_after)
        torch.bmm(taps.transpose(1, 2), d_before, out=d_rows.mixed)
        d_conv = toeplitz_backward(torch.bmm(d_before, rows.mixed.transpose(1, 2)), w.conv_weight.shape[0])
        d_raw = d_dt.mul_(torch.sigmoid(rows.dt + w.dt_bias[:, None, None]))  # derivative of softplus
        d_rows.dt.copy_(d_raw)
        low_d = rounded(d_projected, ctx.low)
        d_in_proj = torch.mm(low_d, low_u.t()).to(grad.dtype)
        d_u = torch.mm(low_in.t(), low_d).to(grad.dtype).view(ctx.shape)
        d_weighted = torch.mm(low_grad, low_gated.t()).to(grad.dtype)  # for out_proj * norm_weight
        small = (d_conv, d_before.sum((1, 2)), d_raw.sum((1, 2)), d_A_log, d_D, (d_weighted * w.out_proj).sum(0))
        return d_u, None, d_in_proj, *small, d_weighted.mul_(w.norm_weight)


def rounded(factor: Tensor, low: bool) -> Tensor:
    """Return a factor of a matrix product as it enters it: in bfloat16 with `low`, else as it is."""
    return factor.bfloat16() if low else factor


def cut(projected: Tensor, w: Weights, shape: torch.Size) -> Rows:
    """Return the parts of the projection (2 I + 2 N + H, T) as views; `shape` is (L, B)."""
    inner, mixed = w.norm_weight.shape[0], w.conv_bias.shape[0]
    z, x, dt = projected[:inner], projected[inner : inner + mixed], projected[inner + mixed :]
    return Rows(z, x.view(mixed, *shape), dt.view(-1, *shape))


def heads(after: Tensor, w: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """Return x (H, P, L, B), B and C (N, L, B) as views of the convolution's output."""
    inner, num_heads = w.norm_weight.shape[0], w.D.shape[0]
    state = (after.shape[0] - inner) // 2
    x = after[:inner].view(num_heads, inner // num_heads, *after.shape[1:])
    return x, after[inner : inner + state], after[inner + state :]


Small = tuple[list[Tensor], list[Tensor], list[Tensor]]


def mixing_diagonals(dt: Tensor, B: Tensor, C: Tensor, w: Weights) -> Small:
    """Return the scores C . B (L-k, B), the decays (H, L-k, B) and their product with dt, skip connection included."""
    length = dt.shape[1]
    scores = dot(C, B)
    faded = decays(torch.exp(dt * -torch.exp(w.A_log)[:, None, None]))
    mixing = [scores[k] * faded[k] * dt[:, : length - k] for k in range(length)]
    mixing[0] += w.D[:, None, None]
    return scores, faded, mixing


def ssm_backward(
    d_y: Tensor, d_after: Tensor, after: Tensor, dt: Tensor, small: Small, w: Weights
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient for x, B and C into `d_after`; return those for dt (H, L, B), A_log (H,) and D (H,)."""
    scores, faded, mixing = small
    length = dt.shape[1]
    x, B, C = heads(after, w)
    d_x, d_B, d_C = heads(d_after, w)
    d_mixing = mix_backward(d_y.view(x.shape), mixing, x, d_x)
    d_dt = torch.zeros_like(dt)
    d_scores, log_grads = [], []
    for k in range(length):
        d_faded_dt = d_mixing[k] * faded[k]  # (H, L-k, B)
        by_dt = d_faded_dt * scores[k]
        d_dt[:, : length - k] += by_dt
        d_scores.append(d_faded_dt.mul_(dt[:, : length - k]).sum(0))
        log_grads.append(by_dt.mul_(dt[:, : length - k]))
    dot_backward(d_scores, C, B, d_C, d_B)
    rate = -torch.exp(w.A_log)[:, None, None]
    d_exponent = decays_backward(log_grads)  # of dt * rate
    d_A_log = (d_exponent * dt * rate).sum((1, 2))
    return d_dt.addcmul_(d_exponent, rate), d_A_log, d_mixing[0].sum((1, 2))


def through_norm(grad: Tensor, out: Tensor, scale: Tensor, inner: int) -> Tensor:
    """Return what each token's gated values (I, T) are multiplied by in their gradient through the norm: (T,).

    With v = W gated and out = scale v, scale = (mean gated ** 2 + eps) ** -1/2, the gradient for gated is
    W^T (scale grad) - gated * scale ** 2 * (grad . out) / I, since d scale / d gated = -scale ** 3 gated / I.
    """
    return (grad * out).sum(0).mul_(scale.square()).div_(-inner)


def toeplitz(weight: Tensor, length: int) -> Tensor:
    """Return for each channel the matrix of the causal convolution: (K, channels) -> (channels, L, L)."""
    matrices = weight.new_zeros(weight.shape[1], length, length)
    for back in range(min(weight.shape[0], length)):
        matrices.diagonal(-back, 1, 2).copy_(weight[-1 - back][:, None])
    return matrices


def toeplitz_backward(grad: Tensor, taps: int) -> Tensor:
    """Return the gradient for the taps (K, channels) from that for the matrices (channels, L, L)."""
    d_weight = grad.new_zeros(taps, grad.shape[0])
    for back in range(min(taps, grad.shape[1])):
        d_weight[-1 - back] = grad.diagonal(-back, 1, 2).sum(-1)
    return d_weight
