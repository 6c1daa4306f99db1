"""Which precision a device trains in."""

import warnings

import pytest
import torch

from models.training.precision import CPU_CHECKS, resolve_precision

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture
def no_cpu_support(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CPU_CHECKS:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((12, 0), "bfloat16")])
def test_auto_on_a_gpu_depends_on_its_capability(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", CUDA) == expected


@pytest.mark.usefixtures("no_cpu_support")
@pytest.mark.parametrize("name", CPU_CHECKS)
def test_auto_on_a_cpu_is_bfloat16_with_one_of_the_instruction_sets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("auto", CPU) == "float32"
    monkeypatch.setattr(torch.cpu, name, lambda: True, raising=False)
    assert resolve_precision("auto", CPU) == "bfloat16"
    assert resolve_precision("auto", MPS) == "float32"


def test_a_torch_that_cannot_say_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CPU_CHECKS:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert resolve_precision("auto", CPU) == "float32"


@pytest.mark.usefixtures("no_cpu_support")
def test_a_precision_that_was_asked_for_is_taken_with_a_warning_where_it_is_slow() -> None:
    with pytest.warns(UserWarning, match=r"^training.precision: expected float32 .* got bfloat16.*; set it to auto$"):
        assert resolve_precision("bfloat16", CPU) == "bfloat16"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_precision("float32", CPU) == "float32"
        assert resolve_precision("bfloat16", MPS) == "bfloat16"
