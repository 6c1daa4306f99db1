"""State space duality: the fast form of the selective state space model, and the slow one that it is tested against.

Both compute, for every head h with its scalar decay (Mamba-2, arXiv 2405.21060, equation 16 and listing 1),

    H[t] = exp(dt[t] A) H[t-1] + dt[t] x[t] B[t]^T          state, (P, N)
    y[t] = H[t] C[t] + D x[t]

`ssd_reference` is that recurrence. `ssd` cuts the sequence into chunks. Inside a chunk it works like attention and
builds no states: y = M x with M[t, s] = (C[t] . B[s]) exp(A (dt[s+1] + ... + dt[t])) dt[s] for s <= t. From one chunk
to the next it passes one state.

Letters: B batch, L length, H heads, P head_dim, N d_state; B and C in signatures are the paper's matrices.
"""

# ruff: noqa: PLR0917  (x, dt, A, B, C, D is the order of the formula)

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from data.errors import UserError

DUAL_LENGTH = 64
"""Positions in a chunk by default. M costs L * L for each head. The paper's kernels use 64 to 256."""

OPERATOR_LENGTH = 16
"""Up to this length all segment sums are one small matrix product of cost L ** 3; longer ones use a running sum."""

LOG_DECAY_FLOOR = -1.0e4
"""Smallest logarithm of a decay. Its exp is 0 in float32 and float64 anyway; without it sums could meet 0 * inf."""


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk_size: int = DUAL_LENGTH) -> Tensor:
    """Run the state space model over x by its dual form, chunk by chunk.

    | argument   | shape        | note                                  |
    |------------|--------------|---------------------------------------|
    | x          | (B, L, H, P) | float32, float64 or bfloat16          |
    | dt         | (B, L, H)    | step sizes, after softplus            |
    | A          | (H,)         | negative                              |
    | B, C       | (B, L, N)    | shared by the heads                   |
    | D          | (H,)         | skip connection                       |
    | chunk_size |              | positions in one chunk, at least 1    |
    | returns    | (B, L, H, P) | dtype of x                            |

    Decays are computed in float32 or float64. Time and memory are linear in L for a fixed chunk size.
    Raises UserError on shapes that do not fit together.
    """
    check_shapes(x, dt, A, B, C, D)
    with torch.autocast(x.device.type, enabled=False):  # operands keep the dtypes they come with
        exponent = torch.float64 if x.dtype == torch.float64 else torch.float32
        log_decay = (dt.to(exponent) * A.to(exponent)).clamp_min(LOG_DECAY_FLOOR)  # (B, L, H)
        if x.shape[1] <= chunk_size:
            return _dual(x, dt, log_decay, B, C, D)
        return _chunked(x, dt, log_decay, B, C, D, chunk_size)


def ssd_reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Run the plain recurrence, position by position; arguments and result as for `ssd`."""
    state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[2])  # (B, H, P, N)
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t] * A)  # (B, H)
        inflow = (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, None, None, :]  # (B, H, P, N)
        state = decay[..., None, None] * state + inflow
        outputs.append((state * C[:, t, None, None, :]).sum(-1) + D[:, None] * x[:, t])  # (B, H, P)
    return torch.stack(outputs, dim=1)  # (B, L, H, P)


def check_shapes(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> None:
    """Raise UserError, naming the argument, unless all shapes fit x (B, L, H, P)."""
    if x.dim() != 4:
        raise UserError(
            f"ssd: expected x (B, L, H, P), got shape {tuple(x.shape)}; split the channels into heads first"
        )
    batch, length, heads, _ = x.shape
    expected = {"dt": (dt, (batch, length, heads)), "A": (A, (heads,)), "C": (C, tuple(B.shape)), "D": (D, (heads,))}
    if tuple(B.shape[:-1]) != (batch, length):
        raise UserError(f"ssd: expected B ({batch}, {length}, N), got {tuple(B.shape)}; B goes with x {tuple(x.shape)}")
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise UserError(f"ssd: expected {name} {shape}, got {tuple(tensor.shape)}; it goes with x {tuple(x.shape)}")


def _dual(x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return y = M x for one chunk that starts from a zero state."""
    batch, length, heads, width = x.shape
    mixing = _mixing(dt, segment_decays(log_decay), B, C)  # (B, H, L, L)
    mixing = mixing + D[:, None, None] * torch.eye(length, dtype=D.dtype, device=D.device)  # the skip connection
    if _fuses(length):
        return (mixing.to(x.dtype)[..., None] * x.transpose(1, 2)[:, :, None]).sum(3).transpose(1, 2)
    values = x.transpose(1, 2).reshape(batch * heads, length, width)  # a view where x lies time-major in memory
    y = torch.bmm(mixing.to(x.dtype).view(batch * heads, length, length), values)  # (B*H, L, P)
    return y.view(batch, heads, length, width).transpose(1, 2)


def _mixing(dt: Tensor, decays: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Return M (B, H, L, L) without the skip connection."""
    fuses = _fuses(C.shape[1])
    scores = (C[:, :, None] * B[:, None]).sum(-1) if fuses else torch.bmm(C, B.transpose(1, 2))  # (B, L, L)
    return scores[:, None] * (decays * dt.transpose(1, 2)[:, :, None, :])


def _chunked(x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, D: Tensor, size: int) -> Tensor:
    """Cut the length into chunks of `size`; each adds what the state before it contributes."""
    state: Tensor | None = None
    outputs = []
    for start in range(0, x.shape[1], size):
        part = slice(start, start + size)
        chunk = (x[:, part], dt[:, part], log_decay[:, part], B[:, part], C[:, part])
        y = _dual(*chunk, D)
        if state is not None:
            y = y + _from_state(state, log_decay[:, part], C[:, part]).to(y.dtype)
        outputs.append(y)
        if start + size < x.shape[1]:
            state = _next_state(state, *chunk[:4])
    return torch.cat(outputs, dim=1)


def _from_state(state: Tensor, log_decay: Tensor, C: Tensor) -> Tensor:
    """Return C[t] exp(a[1] + ... + a[t]) H for the state H (B, H, P, N) before the chunk: (B, L, H, P)."""
    decay = torch.exp(log_decay.cumsum(1))  # (B, L, H)
    return torch.einsum("bln,bhpn->blhp", C.to(state.dtype), state) * decay[..., None]


def _next_state(state: Tensor | None, x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor) -> Tensor:
    """Return the state after the chunk, in the exponent's dtype: (B, H, P, N)."""
    to_end = segment_decays(log_decay)[:, :, -1].transpose(1, 2)  # (B, L, H): what is left of token s at the end
    weighted = x.to(to_end.dtype) * (dt * to_end)[..., None]
    inflow = torch.einsum("blhp,bln->bhpn", weighted, B.to(to_end.dtype))
    if state is None:
        return inflow
    return state * torch.exp(log_decay.sum(1))[..., None, None] + inflow


def segment_decays(log_decay: Tensor) -> Tensor:
    """Return exp(a[s+1] + ... + a[t]) for s <= t, zero for s > t: (B, L, H) -> (B, H, L, L).

    Each sum is taken over its own terms: the difference of two large running sums would lose digits.
    """
    batch, length, heads = log_decay.shape
    a = log_decay.transpose(1, 2)  # (B, H, L)
    if length <= OPERATOR_LENGTH:
        bias, weight = _segment_operator(length, a.dtype, a.device)
        if _fuses(length):
            return torch.exp((a[..., None] * weight).sum(-2) + bias).view(batch, heads, length, length)
        sums = torch.addmm(bias, a.reshape(batch * heads, length), weight).view(batch, heads, length, length)
        return torch.exp(sums)
    ones = torch.ones(length, length, dtype=torch.bool, device=a.device)
    terms = a[..., None].expand(batch, heads, length, length).masked_fill(~ones.tril(-1), 0.0)  # [r, s]: a[r] for r > s
    return torch.exp(terms.cumsum(-2).masked_fill(~ones.tril(), float("-inf")))


def _fuses(length: int) -> bool:
    """Say whether a compiler traces a short window: it fuses sums of products, but not tiny matrix products."""
    return torch.compiler.is_compiling() and length <= OPERATOR_LENGTH


@lru_cache(maxsize=64)
def _segment_operator(length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (bias (L*L,), weight (L, L*L)): bias + a @ weight are the segment sums of a, -inf above the diagonal."""
    with torch.inference_mode(False):  # cached: must also serve a later call that trains
        r, t, s = torch.meshgrid(*[torch.arange(length, device=device)] * 3, indexing="ij")
        weight = ((s < r) & (r <= t)).to(dtype).reshape(length, length * length)
        above = (t[0] < s[0]).reshape(-1)
        bias = torch.zeros(length * length, dtype=dtype, device=device).masked_fill(above, float("-inf"))
    return bias, weight
