"""The Mamba-2 block."""

import math

import pytest
import torch

import models.blocks.mamba
from models.blocks.mamba import MambaBlock
from models.blocks.ssd import ssd_reference


def block(**options) -> MambaBlock:
    torch.manual_seed(0)
    return MambaBlock(16, 6, head_dim=8, **options)


def test_the_block_is_the_same_on_the_sequential_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    model = block().double()
    u = torch.randn(2, 5, 16, dtype=torch.float64)
    fused = model(u)
    monkeypatch.setattr(models.blocks.mamba, "ssd", ssd_reference)
    assert torch.allclose(model.forward_composed(u), fused, atol=1e-12)


def test_memory_layout_does_not_change_the_result() -> None:
    model = block().double()
    u = torch.randn(4, 5, 16, dtype=torch.float64)
    time_major = u.transpose(0, 1).contiguous().transpose(0, 1)
    for form in (model, model.forward_composed):
        assert torch.allclose(form(time_major), form(u), atol=1e-12)


def test_a_length_first_seen_in_inference_mode_can_be_trained_on() -> None:
    model, u = block(), torch.randn(2, 11, 16)  # what is cached for a length must not be an inference tensor
    with torch.inference_mode():
        model.forward_composed(u)
    model.forward_composed(u).sum().backward()
    assert torch.isfinite(model.A_log.grad).all()


def test_decays_and_steps_start_in_the_ranges_of_the_paper() -> None:
    model = MambaBlock(512, 4, head_dim=4)  # 256 heads
    rates = model.A_log.exp()
    steps = torch.nn.functional.softplus(model.dt_bias)
    assert 1.0 <= rates.min() < 2.0 and 15.0 < rates.max() <= 16.0
    assert 1e-3 * 0.999 <= steps.min() < 2e-3 and 0.05 < steps.max() <= 0.1 * 1.001
    assert math.isclose(steps.log().mean().item(), math.log(0.01), abs_tol=0.3)  # log-uniform


def test_a_layer_that_starts_as_a_memory_answers_with_what_followed_the_chunk_it_is_asked_for() -> None:
    torch.manual_seed(0)
    model = MambaBlock(64, 32, start="recall")
    keys, values, others = torch.randn(3, 16, 4, 64).unbind()  # 16 windows of k0 v0 k1 v1 k2 v2 k3 v3, then k1

    def answer(values: torch.Tensor) -> torch.Tensor:
        pairs = torch.stack([keys, values], dim=2).flatten(1, 2)  # (16, 8, 64)
        return model(torch.cat([pairs, keys[:, 1:2]], dim=1))[:, -1]

    known, change = answer(values), []
    for which in range(4):
        changed = values.clone()
        changed[:, which] = others[:, which]
        change.append((answer(changed) - known).norm().item())
    assert change[1] > 2.0 * max(change[0], change[2])  # v3 stands right before k1, where the convolution sees it, too


def test_bfloat16_autocast_of_the_composed_form_stays_finite_and_near_float32() -> None:
    model = block()
    u = torch.randn(3, 5, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model.forward_composed(u)
    y.float().sum().backward()
    assert (y.float() - model(u)).abs().max() < 0.05
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
