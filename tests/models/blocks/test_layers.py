"""The short convolution, the gated norm, dropout by window."""

import pytest
import torch
import torch.nn.functional as F

from models.blocks.layers import (
    NORM_EPS,
    WindowDropout,
    causal_conv,
    channel_major,
    gated_rms_norm,
    random_mask,
    rms_norm,
)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("time_major", [False, True])
def test_the_convolution_and_its_gradients_equal_the_library_s(length: int, time_major: bool) -> None:
    torch.manual_seed(length)
    x = torch.randn(3, length, 6, dtype=torch.float64)
    if time_major:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    weight, bias = torch.randn(4, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    args = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    grad = torch.randn(3, length, 6, dtype=torch.float64)
    got = causal_conv(x, weight, bias)
    padded = F.pad(x.transpose(1, 2), (3, 0))
    want = F.conv1d(padded, weight.T[:, None, :], bias, groups=6).transpose(1, 2)
    assert torch.allclose(got, want, atol=1e-12)
    for ours, theirs in zip(torch.autograd.grad(got, args, grad), torch.autograd.grad(want, args, grad), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_a_hand_computed_convolution() -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)
    weight = torch.tensor([[10.0], [1.0]])  # the older position's tap first
    y = causal_conv(x, weight, torch.tensor([0.5]))
    assert y.flatten().tolist() == [1.5, 12.5, 23.5]  # 1, 2 + 10*1, 3 + 10*2, each + 0.5


def test_the_gated_norm_is_its_formula() -> None:
    torch.manual_seed(0)
    y, z = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    weight = torch.randn(8, dtype=torch.float64)
    gated = y * z * torch.sigmoid(z)
    want = gated / (gated.square().mean(-1, keepdim=True) + NORM_EPS).sqrt() * weight
    assert torch.allclose(gated_rms_norm(y, z, weight), want, atol=1e-12)


def ordered(x: torch.Tensor, channels_first: bool) -> torch.Tensor:
    return x.permute(2, 1, 0).contiguous().permute(2, 1, 0) if channels_first else x


@pytest.mark.parametrize("channels_first", [False, True])
def test_a_window_s_positions_share_their_dropout_mask_in_both_memory_orders(channels_first: bool) -> None:
    torch.manual_seed(0)
    dropped = WindowDropout(0.25)(ordered(torch.ones(200, 5, 50), channels_first))
    assert channel_major(dropped) is channels_first
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1.0 / 0.75).item()}
    assert (dropped == 0.0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_dropout_leaves_evaluation_alone() -> None:
    x = torch.randn(2, 5, 8)
    assert WindowDropout(0.5).eval()(x) is x


@pytest.mark.parametrize("channels_first", [False, True])
def test_the_norm_and_its_gradient_are_the_formula_in_both_memory_orders(channels_first: bool) -> None:
    torch.manual_seed(0)
    x = ordered(torch.randn(3, 5, 8, dtype=torch.float64), channels_first)
    x.requires_grad_()
    grad = torch.randn(3, 5, 8, dtype=torch.float64)
    want = x / (x.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()
    got = rms_norm(x)
    assert channel_major(got) is channels_first
    assert torch.allclose(got, want, atol=1e-12)
    assert torch.allclose(torch.autograd.grad(got, x, grad)[0], torch.autograd.grad(want, x, grad)[0], atol=1e-12)


def test_a_random_mask_has_mean_one_and_the_asked_share() -> None:
    torch.manual_seed(0)
    mask = random_mask(100_003, 0.9)
    assert mask.shape == (100_003,)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.005)
    assert (mask == 0.0).float().mean().item() == pytest.approx(0.1, abs=0.005)
