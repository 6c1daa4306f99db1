"""The registry of variants, their modules and the closed forms that plan them."""

import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.blocks.build import build_model, build_variant
from models.spec.costs import flops_per_window, num_parameters, training_flops_per_window, values_per_window
from models.spec.registry import VARIANTS, make_spec, spec_from_dict, spec_to_dict
from tests.models.helpers import NAMES, small, unit

PARAMETERS_AT_768 = {
    "mamba_s": 4_114_880,
    "mamba_h": 8_062_670,
    "mamba_xl": 17_284_032,
    "mamba_sandwich": 7_934_000,
    "mamba_gr": 11_257_326,
    "amn": 1_441_792,
    "linear": 2_949_120,  # five matrices of 768 x 768
}


def test_planning_imports_no_torch() -> None:
    modules = "models.spec.registry, models.spec.costs, models.spec.loss, models.spec.optim, models.training.negatives"
    code = f"import sys, models.cpu.memory, {modules}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts(name: str) -> None:
    models = [build_variant(name, 768), *(small(name, dim=13, residual=kind) for kind in ("learned", "none"))]
    for model in models:
        assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters(model.spec, model.dim)
    assert num_parameters(models[0].spec, 768) == PARAMETERS_AT_768[name]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mamba_gr"])  # torch does not count inside a GRU
def test_operations_are_those_that_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.blocks.mamba.fused", None)  # nor inside a compiled kernel
    model = small(name, dim=64).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(unit(4, 5, 64))
    assert 4 * flops_per_window(model.spec, 64, 5) == pytest.approx(counter.get_total_flops(), rel=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_maps_unit_rows_to_unit_rows_causally(name: str) -> None:
    model, context = small(name).eval(), unit(3, 5, 12)
    changed = context.clone()
    changed[:, 3:] = F.normalize(changed[:, 3:] + 1.0, dim=-1)
    before, after = model(context), model(changed)
    assert before.shape == (3, 5, 12) and before.dtype == torch.float32
    assert torch.allclose(before.norm(dim=-1), torch.ones(3, 5), atol=1e-5)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_under_bfloat16_autocast_predictions_stay_float32_unit_rows_near_the_others(name: str) -> None:
    model, context = small(name), unit(3, 5, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(context)
    cast[:, -1].sum().backward()
    assert cast.dtype == torch.float32
    assert torch.allclose(cast.norm(dim=-1), torch.ones(3, 5), atol=1e-5)
    assert torch.allclose(cast, model(context), atol=0.02)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_windows_longer_than_the_fused_block_takes_still_work(name: str) -> None:
    model, context = small(name).eval(), unit(2, 70, 12)
    assert torch.allclose(model(context)[:, :5], model(context[:, :5]), atol=1e-5)  # both forms, one result


@pytest.mark.parametrize("name", NAMES)
def test_at_the_start_the_prediction_is_near_the_residual(name: str) -> None:
    model, context = small(name).eval(), unit(3, 5, 12)
    mean = context.cumsum(1) / torch.arange(1, 6)[:, None]
    base = mean if name == "amn" else 0.5 * context + 0.5 * mean
    assert ((model(context) * F.normalize(base, dim=-1)).sum(-1) > 0.97).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = small(name, residual="learned")
    (model(unit(4, 5, 12)) * unit(4, 5, 12, seed=1)).sum().backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_a_spec_changes_the_trained_model(name: str) -> None:
    others = {"residual": "none", "dropout": 0.5, "context_dropout": 1.0, "span_corruption": 1.0, "window": 2}
    others |= {"rotation": 1.0, "ssm_start": "recall", "direct_chunks": 2}

    def figure(**overrides: object) -> float:
        model = small(name, **overrides)
        for parameter in model.parameters():
            if not parameter.any():  # a direct path starts at zero
                torch.nn.init.constant_(parameter, 0.01)
        return model(unit(8, 5, 12))[:, -1, 0].sum().item()

    reference, spec = figure(), small(name).spec
    for field in dataclasses.fields(spec):
        other = others.get(field.name) or 2 * getattr(spec, field.name)
        assert figure(**{field.name: other}) != reference, field.name


def test_layers_keep_the_order_of_the_original_project() -> None:
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
    assert build_model(small(name).spec, 12).spec == small(name).spec


def test_every_field_of_every_spec_is_annotated() -> None:
    for spec in VARIANTS.values():
        fields = {field.name for field in dataclasses.fields(spec)}
        constants = {
            key for key, value in vars(spec).items() if not key.startswith("_") and isinstance(value, (int, float))
        }
        assert constants <= fields


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("mamba_x", {}, r"variant: expected one of mamba_s, .*linear, got 'mamba_x'; did you mean mamba_"),
        ("mamba_s", {"d_modle": 64}, r"mamba_s.d_modle: expected one of dropout, .*; did you mean d_model\?"),
        ("mamba_s", {"num_heads": 4}, "mamba_s.num_heads: expected one of dropout, .* got 'num_heads';"),
        ("mamba_s", {"d_model": 0}, "d_model: expected an integer >= 1, got 0;"),
        ("mamba_s", {"d_model": 64.0}, "d_model: expected an integer >= 1, got 64.0;"),
        ("mamba_s", {"d_model": 48}, r"d_model: expected expand \* d_model \(2 \* 48\) divisible by 64, got 96;"),
        ("mamba_s", {"dropout": 1.0}, r"dropout: expected a number in \[0, 1\), got 1.0;"),
        ("mamba_s", {"dropout": float("nan")}, "dropout: expected .* got nan;"),
        ("mamba_s", {"ssm_layers": True}, "ssm_layers: expected an integer >= 1, got True;"),
        (
            "mamba_s",
            {"residual": "sum"},
            "residual: expected one of fitted, learned, last_mean, mean, none, got 'sum';",
        ),
        ("mamba_s", {"ssm_start": "memory"}, "ssm_start: expected one of paper, recall, got 'memory';"),
        ("mamba_s", {"ssm_start": "recall", "d_conv": 1}, "ssm_start: expected paper where d_conv is 1, got recall,"),
        ("mamba_s", {"rotation": 1.5}, r"rotation: expected a number in \[0, 1\], got 1.5;"),
        ("mamba_h", {"num_heads": 7}, "d_model: expected d_model divisible by 7, got 320;"),
        ("mamba_h", {"window": 0}, "window: expected an integer >= 1, got 0;"),
        ("mamba_gr", {"gru_hidden": 0}, "gru_hidden: expected an integer >= 1, got 0;"),
        ("amn", {"num_heads": 3}, "d_model: expected d_model divisible by 3, got 256;"),
    ],
)
def test_what_no_variant_has_is_one_line_that_begins_with_its_field(name: str, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make_spec(name, **overrides)
    assert "\n" not in str(caught.value)


def test_a_rotation_costs_two_products_there_and_two_back_in_training_only() -> None:
    plain, turned = (make_spec("amn", rotation=share) for share in (0.0, 0.5))
    assert flops_per_window(turned, 64, 5) == flops_per_window(plain, 64, 5)
    more = training_flops_per_window(turned, 64, 5) - training_flops_per_window(plain, 64, 5)
    assert more == 3 * 4 * 2 * 5 * 64 * 64  # forward and backward, four products, each 2 operations a multiply-add


@pytest.mark.parametrize(
    ("name", "sizes", "values"),
    [
        # 5 positions; 16 values of the inner width, 2 d_model, for two layers and the head; 3 copies of the seen chunks
        ("mamba_s", {"d_model": 64, "ssm_layers": 2}, 5 * 16 * 128 * 3),
        ("mamba_s", {"d_model": 64, "ssm_layers": 2, "direct_chunks": 4}, 5 * (16 * 128 * 3 + 3 * 4 * 32)),
        ("amn", {"d_model": 64}, 5 * 16 * 128 * 3),
        ("linear", {"num_chunks": 4}, 5 * (16 * 32 + 3 * 4 * 32)),
    ],
)
def test_a_step_holds_values_for_layers_and_for_the_chunks_of_a_linear_map(name: str, sizes: dict, values: int) -> None:
    assert values_per_window(make_spec(name, **sizes), 32, 5) == values
