"""The fused block against the composed one."""

import pytest
import torch

from models.blocks.mamba import MambaBlock


def block_and_input(length: int, dtype: torch.dtype, **options) -> tuple[MambaBlock, torch.Tensor]:
    torch.manual_seed(length)
    model = MambaBlock(16, 6, **{"head_dim": 8, **options}).to(dtype)
    with torch.no_grad():
        for parameter in (model.norm_weight, model.conv_bias, model.D):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, torch.randn(3, length, 16, dtype=dtype, requires_grad=True)


def outputs_and_gradients(forward, model: MambaBlock, u: torch.Tensor) -> dict[str, torch.Tensor]:
    y = forward(u)
    weights = torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype).view(y.shape)
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad((y * weights).sum(), [u, *model.parameters()])
    return {"y": y.detach(), "u": gradients[0], **dict(zip(names, gradients[1:], strict=True))}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 16])
def test_output_and_every_gradient_equal_the_composed_form(length: int, dtype: torch.dtype, tolerance: float) -> None:
    model, u = block_and_input(length, dtype)
    fused = outputs_and_gradients(model, model, u)
    composed = outputs_and_gradients(model.forward_composed, model, u)
    for name, want in composed.items():
        worst = (fused[name] - want).abs().max().item() / max(1.0, want.abs().max().item())
        assert worst < tolerance, f"{name}: worst difference {worst:.2e}"


@pytest.mark.parametrize("options", [{"d_conv": 1}, {"d_conv": 7}, {"expand": 1}, {"head_dim": 32}])
def test_other_sizes_equal_the_composed_form_too(options: dict) -> None:
    model, u = block_and_input(5, torch.float64, **options)
    fused = outputs_and_gradients(model, model, u)
    for name, want in outputs_and_gradients(model.forward_composed, model, u).items():
        assert torch.allclose(fused[name], want, atol=1e-10), name


def test_gradients_equal_finite_differences() -> None:
    model, u = block_and_input(3, torch.float64)
    parameters = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def function(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(function, (u, *parameters), fast_mode=True)


def test_the_output_lies_as_the_next_block_wants_it() -> None:
    model, u = block_and_input(5, torch.float32)
    assert model(u).permute(2, 1, 0).is_contiguous()


@pytest.mark.parametrize("extreme", [{"A_log": 80.0}, {"A_log": -80.0}, {"dt_bias": 1e4}, {"dt_bias": -1e4}])
@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
def test_extreme_decays_and_steps_stay_finite(extreme: dict[str, float], low: bool) -> None:
    model, u = block_and_input(5, torch.float32)
    with torch.no_grad():
        for name, value in extreme.items():
            getattr(model, name).fill_(value)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        results = outputs_and_gradients(model, model, u)
    for name, result in results.items():
        assert torch.isfinite(result).all(), name


def test_autocast_leaves_float64_alone() -> None:
    model, u = block_and_input(5, torch.float64)
    want = outputs_and_gradients(model, model, u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = outputs_and_gradients(model, model, u)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def test_under_autocast_output_and_every_gradient_are_near_those_of_float32() -> None:
    model, u = block_and_input(5, torch.float32)
    want = outputs_and_gradients(model, model, u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = outputs_and_gradients(model, model, u)
    for name, value in want.items():
        assert (got[name] - value).norm() < 0.02 * value.norm(), name  # bfloat16 keeps 8 bits: 0.4 % a factor
