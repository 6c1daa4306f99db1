"""The registry of variants, their modules and the closed forms that plan them."""

import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.blocks.build import build_model, build_variant
from models.spec.registry import (
    VARIANTS,
    flops_per_window,
    make_spec,
    num_parameters,
    spec_from_dict,
    spec_to_dict,
)

SMALL = {"d_model": 16, "num_heads": 2}
SMALL_SSM = {**SMALL, "d_state": 6, "head_dim": 8}
SIZES = {name: SMALL if name == "amn" else SMALL_SSM for name in VARIANTS}
NAMES = list(VARIANTS)

PARAMETERS_AT_768 = {
    "mamba_s": 4_114_880,
    "mamba_h": 8_062_670,
    "mamba_xl": 17_284_032,
    "mamba_sandwich": 7_934_000,
    "mamba_gr": 11_257_326,
    "amn": 1_441_792,
}


def small(name: str, dim: int = 12, **overrides):
    torch.manual_seed(0)
    return build_variant(name, dim, **{**SIZES[name], "dropout": 0.0, **overrides})


def windows(batch: int, length: int, dim: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return F.normalize(torch.randn(batch, length, dim, generator=generator), dim=-1)


def test_planning_imports_no_torch() -> None:
    modules = "models.spec.registry, models.spec.loss, models.spec.optim, models.training.negatives, models.cpu.memory"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_at_768(name: str) -> None:
    with torch.device("meta"):
        model = build_variant(name, 768)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == num_parameters(model.spec, 768) == PARAMETERS_AT_768[name]


@pytest.mark.parametrize("residual", ["learned", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_the_closed_form_counts_small_models_too(name: str, residual: str) -> None:
    model = small(name, dim=13, residual=residual)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters(model.spec, 13)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "mamba_gr"]
)  # the counter does not see inside a GRU
def test_operations_are_those_that_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.blocks.mamba.takes", lambda *_: False)  # nor inside a compiled kernel
    model = small(name, dim=64).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(windows(4, 5, 64))
    assert 4 * flops_per_window(model.spec, 64, 5) == pytest.approx(counter.get_total_flops(), rel=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_maps_unit_rows_to_unit_rows_causally(name: str) -> None:
    model = small(name).eval()
    context = windows(3, 5)
    changed = context.clone()
    changed[:, 3:] = F.normalize(changed[:, 3:] + 1.0, dim=-1)
    before, after = model(context), model(changed)
    assert before.shape == (3, 5, 12) and before.dtype == torch.float32
    assert torch.allclose(before.norm(dim=-1), torch.ones(3, 5), atol=1e-5)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_under_bfloat16_autocast_predictions_stay_float32_unit_rows_near_the_others(name: str) -> None:
    model, context = small(name), windows(3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(context)
    cast[:, -1].sum().backward()
    assert cast.dtype == torch.float32
    assert torch.allclose(cast.norm(dim=-1), torch.ones(3, 5), atol=1e-5)
    assert torch.allclose(cast, model(context), atol=0.02)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_windows_longer_than_the_fused_block_takes_still_work(name: str) -> None:
    model = small(name).eval()
    context = windows(2, 20)
    assert torch.allclose(model(context)[:, :5], model(context[:, :5]), atol=1e-5)  # both forms, one result


@pytest.mark.parametrize("name", NAMES)
def test_at_the_start_the_prediction_is_near_the_residual(name: str) -> None:
    model = small(name).eval()
    context = windows(3, 5)
    mean = context.cumsum(1) / torch.arange(1, 6)[:, None]
    base = mean if name == "amn" else 0.5 * context + 0.5 * mean
    assert ((model(context) * F.normalize(base, dim=-1)).sum(-1) > 0.97).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = small(name, residual="learned")
    loss = -(model(windows(4, 5)) * windows(4, 6)[:, 1:]).sum()
    loss.backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_layers_keep_the_seed_s_order() -> None:
    ssm, attention = "ssm", "attention"
    assert make_spec("mamba_s").layers() == (ssm,) * 8
    assert make_spec("mamba_h").layers() == (ssm, ssm, ssm, attention) * 3
    assert make_spec("mamba_xl").layers() == (ssm,) * 16
    assert make_spec("mamba_sandwich").layers() == (attention,) * 2 + (ssm,) * 8 + (attention,) * 2
    assert make_spec("mamba_gr").layers() == ("gated",) * 10


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_survives_its_plain_form(name: str) -> None:
    spec = make_spec(name, dropout=0.25)
    assert spec_from_dict(spec_to_dict(spec)) == spec
    assert build_model(spec, 12).spec is spec


def test_every_field_of_every_spec_is_annotated() -> None:
    for spec in VARIANTS.values():
        fields = {field.name for field in dataclasses.fields(spec)}
        constants = {
            key for key, value in vars(spec).items() if not key.startswith("_") and isinstance(value, (int, float))
        }
        assert constants <= fields


def test_an_unknown_name_lists_the_legal_ones() -> None:
    with pytest.raises(
        ValueError, match=r"^variant: expected one of mamba_s, .*amn, got 'mamba_x'; did you mean mamba_"
    ):
        make_spec("mamba_x")


def test_an_unknown_key_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=r"^mamba_s.d_modle: expected one of d_model, .*; did you mean d_model\?"):
        build_variant("mamba_s", 12, d_modle=64)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("mamba_s", {"d_model": 0}, "d_model: expected an integer >= 1, got 0;"),
        ("mamba_s", {"d_model": 64.0}, "d_model: expected an integer >= 1, got 64.0;"),
        ("mamba_s", {"d_model": 48}, r"d_model: expected expand \* d_model \(2 \* 48\) divisible by 64, got 96;"),
        ("mamba_s", {"dropout": 1.0}, r"dropout: expected a number in \[0, 1\), got 1.0;"),
        ("mamba_s", {"dropout": float("nan")}, "dropout: expected .* got nan;"),
        ("mamba_s", {"ssm_layers": 0}, "ssm_layers: expected an integer >= 1, got 0;"),
        ("mamba_s", {"residual": "sum"}, "residual: expected one of last_mean, mean, learned, none, got 'sum';"),
        ("mamba_h", {"num_heads": 7}, "d_model: expected d_model divisible by 7, got 320;"),
        ("mamba_h", {"window": 0}, "window: expected an integer >= 1, got 0;"),
        ("mamba_gr", {"gru_hidden": 0}, "gru_hidden: expected an integer >= 1, got 0;"),
        ("amn", {"num_heads": 3}, "d_model: expected d_model divisible by 3, got 256;"),
    ],
)
def test_a_value_out_of_range_is_one_line_that_begins_with_its_field(name: str, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make_spec(name, **overrides)
    assert "\n" not in str(caught.value)
