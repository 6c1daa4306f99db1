"""Local attention against a naive mask."""

import pytest
import torch

from models.blocks.attention import LocalAttention


def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    length = q.shape[2]
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    for t in range(length):
        for s in range(length):
            if s > t or s <= t - window:
                scores[..., t, s] = float("-inf")
    return scores.softmax(-1) @ v


@pytest.mark.parametrize(("length", "window"), [(1, 8), (5, 8), (8, 8), (9, 8), (20, 8), (6, 1), (6, 2)])
def test_attention_sees_itself_and_the_window_before_it(length: int, window: int) -> None:
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, 3, length, 4, dtype=torch.float64) for _ in range(3))
    got = LocalAttention(12, num_heads=3, window=window).attend(q, k, v)
    assert torch.allclose(got, v if window == 1 else naive(q, k, v, window), atol=1e-12)
