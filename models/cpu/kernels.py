"""The elementwise work of the fused block, one channel at a time, compiled by numba.

Each operation of a library passes over the whole tensor, so at L = 5 a block waits for memory. These kernels work on
one channel at a time: its (L, B) numbers fit into the first cache. Convolution, SiLU, state space model and gate are
all done before the next channel. So every large tensor is read or written once.
The backward pass computes again what is cheap to compute, which is everything but the projection.

Arrays are channel-major with the windows innermost. Pairs (t, s), s <= t, of positions are numbered t (t + 1) / 2 + s.

    before[t]  = bias + sum over k of conv[K-1-k] mixed[t-k]          mixed = the projection's rows x, B, C
    after[t]   = before[t] sigmoid(before[t])
    scores[ts] = sum over n of C[n, t] B[n, s]
    M[h, ts]   = scores[ts] decays[h, ts] dt[h, s] + [t = s] D[h]     decays[h, ts] = product of steps s+1 .. t
    y[t]       = sum over s of M[h, ts] x[s]
    gated[t]   = y[t] z[t] sigmoid(z[t])

Letters: H heads, P head_dim, I = H P, N d_state, K taps, L positions, B windows, Q = L (L + 1) / 2 pairs. Arrays are
float32 or float64. Those of the matrix products (projected, gated and their gradients) may also be bfloat16, given as
int16 arrays with the same bits. They are converted one channel at a time. `first` and `last` are a range of heads. Each
range writes its own part of every result, so ranges may run in threads: the kernels release the interpreter's lock.

All compiled code is in this one file, since the cache on disk notices changes of a kernel's own file only.
"""

# ruff: noqa: PLR0917  (arrays of the formulas, in their order)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

from models.cpu.cache import kept_by_content

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

REASSOCIATE = {"contract", "reassoc", "nsz", "arcp"}
"""The liberties that the compiler may take with sums and products; none of them changes NaN or infinity."""

EXP2_TERMS = tuple(np.float32(math.log(2.0) ** k / math.factorial(k)) for k in range(8))
"""Taylor series of 2 ** f; its error on |f| <= 1/2 is below 6e-9, a tenth of float32's rounding."""


def compiled(function: Function) -> Function:
    """Compile a function at its first call; later processes load it from the cache on disk, if there is one."""
    options = {"nogil": True, "fastmath": REASSOCIATE, "error_model": "numpy"}
    try:
        with kept_by_content():
            result: Function = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache can be written
        result = njit(**options)(function)
    return result


def sigmoid(x: Array, out: Array, bits: Array) -> None:
    """Write 1 / (1 + exp(-x)) of a row; `bits` is an int32 work row. Compiled code only, see `_sigmoid`."""
    raise NotImplementedError


@overload(sigmoid)  # type: ignore[untyped-decorator]
def _sigmoid(x: Any, out: Any, bits: Any) -> Callable[[Any, Any, Any], None]:
    """Choose by type: the library's exp for float64; for float32 a polynomial, which can be vectorised."""
    if x.dtype.bitwidth == 64:

        def exact(x: Any, out: Any, bits: Any) -> None:
            for b in range(x.shape[0]):
                out[b] = 1.0 / (1.0 + math.exp(-x[b]))

        return exact
    c0, c1, c2, c3, c4, c5, c6, c7 = EXP2_TERMS
    to_exponent, half, one = np.float32(-1.0 / math.log(2.0)), np.float32(0.5), np.float32(1.0)
    lowest, highest = np.float32(-126.0), np.float32(126.0)  # normal numbers; beyond, the result is 1 or under 1e-37

    def vectorised(x: Any, out: Any, bits: Any) -> None:
        power = bits.view(np.float32)  # 2 ** n, written as the exponent's bits
        for b in range(x.shape[0]):
            exponent = min(max(x[b] * to_exponent, lowest), highest)
            n = np.floor(exponent + half)
            f = exponent - n
            bits[b] = (np.int32(n) + np.int32(127)) << np.int32(23)
            out[b] = c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * (c6 + f * c7))))))
        for b in range(x.shape[0]):
            out[b] = one / (one + out[b] * power[b])

    return vectorised


def load(stored: Array, work: Array) -> Array:
    """Return a channel (L, B) as floats: itself, or a bfloat16 converted into `work`. Compiled code only."""
    raise NotImplementedError


def room(stored: Array, work: Array) -> Array:
    """Return where to write a channel (L, B) before `store`: its own place, or `work`. Compiled code only."""
    raise NotImplementedError


def store(values: Array, stored: Array) -> None:
    """Round a channel (L, B) from `room` to bfloat16; floats are already in place. Compiled code only."""
    raise NotImplementedError


@overload(load)  # type: ignore[untyped-decorator]
def _load(stored: Any, work: Any) -> Callable[[Any, Any], Any]:
    return _itself if isinstance(stored.dtype, types.Float) else _widened


@overload(room)  # type: ignore[untyped-decorator]
def _room(stored: Any, work: Any) -> Callable[[Any, Any], Any]:
    return _itself if isinstance(stored.dtype, types.Float) else _work


@overload(store)  # type: ignore[untyped-decorator]
def _store(values: Any, stored: Any) -> Callable[[Any, Any], None]:
    return _nothing if isinstance(stored.dtype, types.Float) else _rounded


def _itself(stored: Any, work: Any) -> Any:
    return stored


def _work(stored: Any, work: Any) -> Any:
    return work


def _nothing(values: Any, stored: Any) -> None:
    pass


def _widened(stored: Any, work: Any) -> Any:
    bits = work.view(np.int32)
    for t in range(stored.shape[0]):
        row, out = stored[t], bits[t]
        for b in range(row.shape[0]):
            out[b] = np.int32(row[b]) << np.int32(16)
    return work


def _rounded(values: Any, stored: Any) -> None:
    bits = values.view(np.int32)
    half, one, width = np.int32(0x7FFF), np.int32(1), np.int32(16)
    for t in range(stored.shape[0]):
        row, out = bits[t], stored[t]
        for b in range(row.shape[0]):
            out[b] = np.int16((row[b] + half + ((row[b] >> width) & one)) >> width)  # ties to even


@compiled
def pair(t: int, s: int) -> int:
    """Return the number of the pair (t, s), s <= t."""
    return t * (t + 1) // 2 + s


@compiled
def sigmoids(x: Array, out: Array, bits: Array) -> None:
    """Write the sigmoid of every position of a channel, (L, B)."""
    for t in range(x.shape[0]):
        sigmoid(x[t], out[t], bits)


@compiled
def convolve(mixed: Array, conv: Array, bias: Array, channel: int, before: Array) -> None:
    """Write the causal convolution of one channel: mixed and before (L, B), conv (K, channels), bias (channels,)."""
    length, windows = mixed.shape
    taps = conv.shape[0]
    for t in range(length):
        out, newest, weight, start = before[t], mixed[t], conv[taps - 1, channel], bias[channel]
        for b in range(windows):
            out[b] = start + weight * newest[b]
        for back in range(1, min(taps, t + 1)):
            older, weight = mixed[t - back], conv[taps - 1 - back, channel]
            for b in range(windows):
                out[b] += weight * older[b]


@compiled
def activate(mixed: Array, conv: Array, bias: Array, channel: int, before: Array, gate: Array, bits: Array) -> None:
    """Write one channel's convolution and the sigmoid of it, all (L, B)."""
    convolve(mixed, conv, bias, channel, before)
    sigmoids(before, gate, bits)


@compiled
def multiply(left: Array, right: Array, out: Array) -> None:
    """Write the product of two channels (L, B); a loop compiles ten times as fast as an array expression."""
    for t in range(out.shape[0]):
        row, one, other = out[t], left[t], right[t]
        for b in range(row.shape[0]):
            row[b] = one[b] * other[b]


@compiled
def convolve_backward(
    d_before: Array, mixed: Array, conv: Array, channel: int, d_mixed: Array, d_conv: Array, d_bias: Array
) -> None:
    """Write one channel's gradients for the convolution's input (L, B), its taps and its bias."""
    length, windows = mixed.shape
    taps = conv.shape[0]
    zero = mixed[0, 0] * 0
    for s in range(length):
        out, grad, weight = d_mixed[s], d_before[s], conv[taps - 1, channel]
        for b in range(windows):
            out[b] = weight * grad[b]
        for ahead in range(1, min(taps, length - s)):
            grad, weight = d_before[s + ahead], conv[taps - 1 - ahead, channel]
            for b in range(windows):
                out[b] += weight * grad[b]
    total = zero
    for t in range(length):
        grad = d_before[t]
        for b in range(windows):
            total += grad[b]
    d_bias[channel] = total
    for back in range(taps):
        total = zero
        for t in range(back, length):
            grad, older = d_before[t], mixed[t - back]
            for b in range(windows):
                total += grad[b] * older[b]
        d_conv[taps - 1 - back, channel] = total


@compiled
def clear(out: Array) -> None:
    """Write zeros, (L, B)."""
    for t in range(out.shape[0]):
        row = out[t]
        for b in range(row.shape[0]):
            row[b] = 0


@compiled
def silu_backward(grad: Array, x: Array, gate: Array) -> None:
    """Turn x (L, B), whose sigmoid is `gate`, into the gradient for x of x sigmoid(x), given that for the result."""
    length, windows = x.shape
    one = x.dtype.type(1)
    for t in range(length):
        g, value, s = grad[t], x[t], gate[t]
        for b in range(windows):
            value[b] = g[b] * s[b] * (one + value[b] * (one - s[b]))


@compiled
def score_pairs(inner: int, projected: Array, conv: Array, bias: Array, scores: Array) -> None:
    """Add C[t] . B[s] to scores (Q, B); projected (2 I + 2 N + H, L, B) holds B and C from row 2 I on."""
    _, length, windows = projected.shape
    state = (conv.shape[1] - inner) // 2
    work = np.empty((5, length, windows), conv.dtype)
    before_b, before_c, gate_b, gate_c, wide = work[0], work[1], work[2], work[3], work[4]
    bits = np.empty(windows, np.int32)
    for n in range(state):
        b_channel, c_channel = inner + n, inner + state + n
        activate(load(projected[inner + b_channel], wide), conv, bias, b_channel, before_b, gate_b, bits)
        activate(load(projected[inner + c_channel], wide), conv, bias, c_channel, before_c, gate_c, bits)
        multiply(before_b, gate_b, before_b)
        multiply(before_c, gate_c, before_c)
        for t in range(length):
            for s in range(t + 1):
                out, late, early = scores[pair(t, s)], before_c[t], before_b[s]
                for b in range(windows):
                    out[b] += late[b] * early[b]


@compiled
def mixing_matrix(scores: Array, dt: Array, step: Array, D: Array, decays: Array, mixing: Array) -> None:
    """Write decays and M (H, Q, B); scores (Q, B), dt and step = exp(dt A) (H, L, B), D (H,).

    Decays are products of numbers in [0, 1], so they cannot overflow.
    """
    heads, length, windows = dt.shape
    one = dt.dtype.type(1)
    for h in range(heads):
        for t in range(length):
            for b in range(windows):
                decays[h, pair(t, t), b] = one
            for s in range(t):
                for b in range(windows):
                    decays[h, pair(t, s), b] = decays[h, pair(t - 1, s), b] * step[h, t, b]
            for s in range(t + 1):
                out, score, decay, size = mixing[h, pair(t, s)], scores[pair(t, s)], decays[h, pair(t, s)], dt[h, s]
                skip = D[h] if s == t else one * 0
                for b in range(windows):
                    out[b] = score[b] * decay[b] * size[b] + skip


@compiled
def mix(mixing: Array, x: Array, t: int, y: Array) -> None:
    """Write y[t] (B,) of one channel: mixing (Q, B), x (L, B)."""
    windows = y.shape[0]
    weight, value = mixing[pair(t, 0)], x[0]
    for b in range(windows):
        y[b] = weight[b] * value[b]
    for s in range(1, t + 1):
        weight, value = mixing[pair(t, s)], x[s]
        for b in range(windows):
            y[b] += weight[b] * value[b]


@compiled
def mix_and_gate(
    first: int,
    last: int,
    projected: Array,
    conv: Array,
    bias: Array,
    mixing: Array,
    gated: Array,
    squares: Array,
) -> None:
    """Write gated (I, L, B) of some heads and add their squares to `squares` (L, B)."""
    inner, length, windows = gated.shape
    width = inner // mixing.shape[0]
    work = np.empty((4, length, windows), conv.dtype)
    x, gate, wide = work[0], work[1], work[2]
    bits = np.empty(windows, np.int32)
    for channel in range(first * width, last * width):
        activate(load(projected[inner + channel], wide), conv, bias, channel, x, gate, bits)
        multiply(x, gate, x)
        z = load(projected[channel], wide)
        sigmoids(z, gate, bits)
        result = room(gated[channel], work[3])
        for t in range(length):
            mix(mixing[channel // width], x, t, result[t])
            y, value, opened, total = result[t], z[t], gate[t], squares[t]
            for b in range(windows):
                y[b] *= value[b] * opened[b]
                total[b] += y[b] * y[b]
        store(result, gated[channel])


@compiled
def mix_and_gate_backward(
    first: int,
    last: int,
    projected: Array,
    conv: Array,
    bias: Array,
    mixing: Array,
    d_gated: Array,
    along: Array,
    d_projected: Array,
    d_mixing: Array,
    d_conv: Array,
    d_bias: Array,
) -> None:
    """Write the gradients of some heads: d_projected's rows z and x, d_conv, d_bias; add to d_mixing (H, Q, B).

    The gradient for gated is d_gated + along * gated, along (L, B): what comes through the norm's scale.
    """
    inner, length, windows = d_gated.shape
    width = inner // mixing.shape[0]
    one = conv.dtype.type(1)
    work = np.empty((10, length, windows), conv.dtype)
    before, gate, x, opened, d_y, d_x = work[0], work[1], work[2], work[3], work[4], work[5]
    y = np.empty(windows, conv.dtype)
    bits = np.empty(windows, np.int32)
    for channel in range(first * width, last * width):
        head = channel // width
        mixed = load(projected[inner + channel], work[7])
        z, d_out = load(projected[channel], work[8]), load(d_gated[channel], work[9])
        activate(mixed, conv, bias, channel, before, gate, bits)
        multiply(before, gate, x)
        sigmoids(z, opened, bits)
        d_row = room(d_projected[channel], work[6])
        clear(d_x)
        for t in range(length):
            mix(mixing[head], x, t, y)
            value, s, grad, share, out, d_z = z[t], opened[t], d_out[t], along[t], d_y[t], d_row[t]
            for b in range(windows):
                silu = value[b] * s[b]
                g = grad[b] + share[b] * y[b] * silu
                d_z[b] = g * y[b] * (s[b] + silu * (one - s[b]))
                out[b] = g * silu
            mix_backward(mixing[head], x, d_y, t, d_x, d_mixing[head])
        store(d_row, d_projected[channel])
        silu_backward(d_x, before, gate)
        d_row = room(d_projected[inner + channel], work[6])
        convolve_backward(before, mixed, conv, channel, d_row, d_conv, d_bias)
        store(d_row, d_projected[inner + channel])


@compiled
def mix_backward(mixing: Array, x: Array, d_y: Array, t: int, d_x: Array, d_mixing: Array) -> None:
    """Add the share of d_y[t], the gradient at position t, to d_x (L, B) and d_mixing (Q, B)."""
    windows = x.shape[1]
    grad = d_y[t]
    for s in range(t + 1):
        weight, value, out, total = mixing[pair(t, s)], x[s], d_x[s], d_mixing[pair(t, s)]
        for b in range(windows):
            out[b] += weight[b] * grad[b]
            total[b] += grad[b] * value[b]


@compiled
def mixing_matrix_backward(
    d_mixing: Array,
    scores: Array,
    dt: Array,
    decays: Array,
    A: Array,
    d_scores: Array,
    d_dt: Array,
    d_A: Array,
    d_D: Array,
) -> None:
    """Add the gradients for scores (Q, B), dt (H, L, B), A and D (H,), given that for M (H, Q, B).

    The logarithm of decays[ts] is A times the sum of dt over s+1 .. t.
    """
    heads, length, windows = dt.shape
    for h in range(heads):
        for t in range(length):
            for s in range(t + 1):
                q = pair(t, s)
                for b in range(windows):
                    faded = d_mixing[h, q, b] * decays[h, q, b]
                    d_scores[q, b] += faded * dt[h, s, b]
                    by_dt = faded * scores[q, b]
                    d_dt[h, s, b] += by_dt
                    for r in range(s + 1, t + 1):
                        d_dt[h, r, b] += by_dt * dt[h, s, b] * A[h]
                        d_A[h] += by_dt * dt[h, s, b] * dt[h, r, b]
                    if s == t:
                        d_D[h] += d_mixing[h, q, b]


@compiled
def score_pairs_backward(
    inner: int,
    projected: Array,
    conv: Array,
    bias: Array,
    d_scores: Array,
    d_projected: Array,
    d_conv: Array,
    d_bias: Array,
) -> None:
    """Write the gradients of the channels of B and C: d_projected's rows, d_conv and d_bias."""
    _, length, windows = projected.shape
    state = (conv.shape[1] - inner) // 2
    work = np.empty((9, length, windows), conv.dtype)
    before_b, before_c, gate_b, gate_c, d_b, d_c = work[0], work[1], work[2], work[3], work[4], work[5]
    bits = np.empty(windows, np.int32)
    for n in range(state):
        b_channel, c_channel = inner + n, inner + state + n
        mixed_b, mixed_c = load(projected[inner + b_channel], work[7]), load(projected[inner + c_channel], work[8])
        activate(mixed_b, conv, bias, b_channel, before_b, gate_b, bits)
        activate(mixed_c, conv, bias, c_channel, before_c, gate_c, bits)
        clear(d_b)
        clear(d_c)
        for t in range(length):
            for s in range(t + 1):
                grad = d_scores[pair(t, s)]
                early, early_gate, late, late_gate = before_b[s], gate_b[s], before_c[t], gate_c[t]
                to_early, to_late = d_b[s], d_c[t]
                for b in range(windows):
                    to_early[b] += grad[b] * late[b] * late_gate[b]
                    to_late[b] += grad[b] * early[b] * early_gate[b]
        silu_backward(d_b, before_b, gate_b)
        d_row = room(d_projected[inner + b_channel], work[6])
        convolve_backward(before_b, mixed_b, conv, b_channel, d_row, d_conv, d_bias)
        store(d_row, d_projected[inner + b_channel])
        silu_backward(d_c, before_c, gate_c)
        d_row = room(d_projected[inner + c_channel], work[6])
        convolve_backward(before_c, mixed_c, conv, c_channel, d_row, d_conv, d_bias)
        store(d_row, d_projected[inner + c_channel])
