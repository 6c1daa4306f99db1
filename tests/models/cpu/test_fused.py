"""The fused block against the composed one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.blocks.mamba import MambaBlock
from models.cpu import fused
from tests.models.helpers import small, unit


def block_and_input(length: int, dtype: torch.dtype, **options) -> tuple[MambaBlock, torch.Tensor]:
    torch.manual_seed(length)
    model = MambaBlock(16, 6, **{"head_dim": 8, **options}).to(dtype)
    with torch.no_grad():
        for parameter in (model.norm_weight, model.conv_bias, model.D):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, torch.randn(3, length, 16, dtype=dtype, requires_grad=True)


def outputs_and_gradients(forward, model: MambaBlock, u: torch.Tensor, low: bool = False) -> dict[str, torch.Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        y = forward(u)
    weights = torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype).view(y.shape)
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad((y * weights).sum(), [u, *model.parameters()])
    return {"y": y.detach(), "u": gradients[0], **dict(zip(names, gradients[1:], strict=True))}


@pytest.mark.parametrize(
    ("length", "dtype", "options"),
    [
        *((length, torch.float64, {}) for length in (1, 2, 3, 4, 5, 8, 16, 64)),
        *((length, torch.float32, {}) for length in (1, 5, 64)),
        *((5, torch.float64, options) for options in ({"d_conv": 1}, {"d_conv": 7}, {"expand": 1}, {"head_dim": 32})),
    ],
)
def test_output_and_every_gradient_equal_the_composed_form(length: int, dtype: torch.dtype, options: dict) -> None:
    model, u = block_and_input(length, dtype, **options)
    found = outputs_and_gradients(model, model, u)
    for name, want in outputs_and_gradients(model.forward_composed, model, u).items():
        worst = (found[name] - want).abs().max().item() / max(1.0, want.abs().max().item())
        assert worst < (1e-10 if dtype == torch.float64 else 1e-4), f"{name}: worst difference {worst:.2e}"


@pytest.mark.parametrize(("missing", "length", "fits"), [(1, 5, False), (0, 64, True), (0, 65, False)])
def test_a_few_windows_and_long_ones_are_left_to_torch(missing: int, length: int, fits: bool, min_windows: int) -> None:
    assert fused.takes(torch.empty(min_windows - missing, length, 16), torch.empty(16)) is fits


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
    for name, result in outputs_and_gradients(model, model, u, low).items():
        assert torch.isfinite(result).all(), name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0.0), (torch.float32, 0.02)])
def test_autocast_leaves_float64_alone_and_rounds_float32_to_bfloat16(dtype: torch.dtype, tolerance: float) -> None:
    model, u = block_and_input(5, dtype)
    want, got = (outputs_and_gradients(model, model, u, low) for low in (False, True))
    for name, value in want.items():
        assert (got[name] - value).norm() <= tolerance * value.norm(), name  # bfloat16 keeps 8 bits: 0.4 % a factor
    assert torch.equal(got["y"], want["y"]) is (dtype == torch.float64)


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import torch
from models.blocks import mamba
from models.warm import compile_kernels
from tests.models.helpers import small, unit
assert mamba.fused is None
compile_kernels()
model = small("mamba_sandwich")
predictions = model(unit(3, 5, 12))
predictions.sum().backward()
torch.save(predictions.detach(), sys.argv[1])
"""


def test_without_numba_every_block_takes_the_composed_form(tmp_path: Path) -> None:
    file = tmp_path / "predictions.pt"
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert torch.allclose(torch.load(file), small("mamba_sandwich")(unit(3, 5, 12)), atol=1e-5)
