"""The dual form of the state space model against its recurrence."""

import pytest
import torch
from torch import Tensor

from models.blocks.ssd import ssd, ssd_reference

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
NAMES = ("x", "dt", "A", "B", "C", "D")


def inputs(  # noqa: PLR0917
    length: int, dtype: torch.dtype, batch: int = 2, heads: int = 3, width: int = 4, state: int = 5
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = normal(batch, length, heads, width)
    dt = torch.nn.functional.softplus(normal(batch, length, heads) - 2.0)
    A = -1.0 - 15.0 * torch.rand(heads, generator=generator, dtype=torch.float64)
    B, C, D = normal(batch, length, state), normal(batch, length, state), normal(heads)
    return [tensor.to(dtype).requires_grad_() for tensor in (x, dt, A, B, C, D)]


def outputs_and_gradients(function, args: list[Tensor], **options) -> list[Tensor]:
    y = function(*args, **options)
    weights = torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), args)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("length", "options"),
    [
        *((length, {}) for length in (*range(1, 7), 15, 16, 17, 64, 130)),  # one chunk up to 64
        *((length, {"chunk_size": size}) for length, size in [(5, 1), (5, 5), (6, 3), (7, 3), (17, 16), (40, 17)]),
    ],
)
def test_the_dual_form_and_its_gradients_agree_with_the_recurrence(
    length: int, options: dict[str, int], dtype: torch.dtype
) -> None:
    args = inputs(length, dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in args]
    fast, slow = outputs_and_gradients(ssd, args, **options), outputs_and_gradients(ssd_reference, exact)
    for name, got, want in zip(("y", *(f"d{name}" for name in NAMES)), fast, slow, strict=True):
        scale = max(1.0, want.abs().max().item())  # a gradient that sums L terms is as large as they are together
        worst = (got.double() - want).abs().max().item() / scale
        assert worst < TOLERANCE[dtype], f"{name}: worst difference {worst:.2e}"


def test_a_hand_computed_sequence_of_two_tokens() -> None:
    # one head, one channel, one state: h1 = dt1 x1 B1 = 0.5*2*3 = 3; y1 = C1 h1 + D x1 = 4*3 + 10*2 = 32
    # h2 = exp(dt2 A) h1 + dt2 x2 B2 = 0.5*3 + ln(2)*1*1; y2 = C2 h2 + D x2 = 2*h2 + 10
    x = torch.tensor([2.0, 1.0], dtype=torch.float64).view(1, 2, 1, 1)
    ln2 = torch.log(torch.tensor(2.0, dtype=torch.float64))
    dt = torch.stack([torch.tensor(0.5, dtype=torch.float64), ln2]).view(1, 2, 1)
    B, C = (torch.tensor(values, dtype=torch.float64).view(1, 2, 1) for values in ([3.0, 1.0], [4.0, 2.0]))
    A, D = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64)
    want = torch.tensor([32.0, 2.0 * (1.5 + ln2.item()) + 10.0], dtype=torch.float64)
    for function in (ssd, ssd_reference):
        assert torch.allclose(function(x, dt, A, B, C, D).flatten(), want, atol=1e-12)


@pytest.mark.parametrize("length", [5, 20, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("dt_value", "a_value"), [(1e-30, -1e-30), (1e4, -1e4), (1e30, -16.0), (1e30, -1e30), (1e-8, -1e30), (0.0, -16.0)]
)
def test_extreme_steps_and_decays_give_finite_outputs_and_gradients(
    dt_value: float, a_value: float, dtype: torch.dtype, length: int
) -> None:
    x, dt, A, B, C, D = (tensor.detach() for tensor in inputs(length, torch.float32))
    dt = torch.full_like(dt, dt_value)
    x = x / max(1.0, dt_value)  # dt times x is an input of the model, it may not overflow by itself
    A = torch.full_like(A, a_value)
    args = [x.to(dtype), dt, A, B.to(dtype), C.to(dtype), D]
    args = [tensor.requires_grad_() for tensor in args]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        results = outputs_and_gradients(ssd, args)
    assert results[0].dtype == dtype
    for name, result in zip(("y", *NAMES), results, strict=True):
        assert torch.isfinite(result).all(), name


def test_exponents_are_float32_when_the_inputs_are_bfloat16() -> None:
    # 1000 steps of decay exp(-0.001): in bfloat16 the summed exponent would stall near 256 * 0.001
    length = 200
    x = torch.zeros(1, length, 1, 1, dtype=torch.bfloat16)
    x[:, 0] = 1.0
    dt = torch.ones(1, length, 1)
    ones = torch.ones(1, length, 1, dtype=torch.bfloat16)
    y = ssd(x, dt, torch.tensor([-0.001]), ones, ones, torch.zeros(1))
    assert y[0, -1].item() == pytest.approx(0.8195, rel=0.01)  # exp(-0.199)


def test_a_long_input_needs_memory_linear_in_its_length() -> None:
    length = 2048
    x, dt, A, B, C, D = inputs(length, torch.float32, batch=1, heads=1, width=2, state=2)
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        ssd(x, dt, A, B, C, D).sum().backward()
    assert saved < length * length / 2  # one dual form over all positions would keep several matrices of that size


@pytest.mark.parametrize(
    ("name", "shape"),
    [("x", (2, 5, 12)), ("dt", (2, 5, 2)), ("A", (4,)), ("B", (2, 4, 5)), ("C", (2, 5, 6)), ("D", (2,))],
)
def test_a_wrong_shape_is_named_in_one_line(name: str, shape: tuple[int, ...]) -> None:
    args = dict(zip(NAMES, inputs(5, torch.float32), strict=True))
    args[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"^ssd: expected {name}\b.*got.*;") as caught:
        ssd(**args)
    assert "\n" not in str(caught.value)
