"""AdamW's groups, the schedule, clipping."""

import itertools
import math

import pytest
import torch

from models.blocks.head import PredictionHead
from models.spec.optim import OptimConfig, lr_factor
from models.training.optim import build_optimizer, clip_gradients, parameter_groups, set_lr
from tests.models.helpers import small


@pytest.mark.parametrize("name", ["mamba_h", "mamba_gr"])
def test_only_matrices_decay(name: str) -> None:
    model = small(name, residual="learned")
    decayed, free = parameter_groups(model, OptimConfig(weight_decay=0.1))
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1 and free["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    assert all(parameter.dim() >= 2 for parameter in decayed["params"])
    free_names = {names[id(parameter)].rsplit(".", maxsplit=1)[-1] for parameter in free["params"]}
    assert {"A_log", "D", "dt_bias", "norm_weight", "conv_bias", "mix"} <= free_names
    decayed_names = " ".join(names[id(parameter)] for parameter in decayed["params"])
    assert not any(word in decayed_names for word in ("norm", "bias", "A_log", "mix"))


def test_the_factor_rises_linearly_and_falls_as_a_cosine() -> None:
    config = OptimConfig(warmup_share=0.1, min_lr_share=0.2)
    factors = [lr_factor(step, 100, config) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[54] == pytest.approx(0.2 + 0.8 * 0.5)  # half way down the cosine
    assert factors[-1] == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[9:]))


def test_a_single_step_trains_at_the_peak() -> None:
    assert lr_factor(0, 1, OptimConfig()) == 1.0


def test_set_lr_reaches_every_group() -> None:
    config = OptimConfig(lr=0.5, warmup_share=0.0)
    optimizer = build_optimizer(small("mamba_s"), config)
    assert set_lr(optimizer, 0, 10, config) == 0.5
    assert set_lr(optimizer, 9, 10, config) == pytest.approx(0.5 * config.min_lr_share)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5 * config.min_lr_share}


def test_a_direct_path_takes_a_step_of_its_own() -> None:
    config = OptimConfig(lr=0.1, direct_lr_scale=2.5, weight_decay=0.5, warmup_share=0.0)
    head = PredictionHead(1, 1, "none", direct_chunks=1)
    for layer in (head.proj, head.direct):
        layer.weight.data.fill_(2.0)
        layer.weight.grad = torch.tensor([[3.0]])
    optimizer = build_optimizer(torch.nn.ModuleDict({"head": head, "direct": torch.nn.Linear(2, 2)}), config)
    assert len(optimizer.param_groups[1]["params"]) == 1  # another layer of that name is none
    assert set_lr(optimizer, 0, 10, config) == 0.1
    optimizer.step()
    # as below by a step of 0.1: 2 - 0.1*0.5*2 - 0.1 = 1.8; of 0.25: 2 - 0.25*0.5*2 - 0.25 = 1.5
    assert [layer.weight.item() for layer in (head.proj, head.direct)] == pytest.approx([1.8, 1.5], abs=1e-6)


def test_a_rate_that_is_a_tensor_keeps_its_scale_and_its_place() -> None:
    config = OptimConfig(lr=0.1, direct_lr_scale=2.5, warmup_share=0.0)
    optimizer = build_optimizer(small("amn", direct_chunks=3), config)
    rates = [torch.tensor(0.0) for _ in optimizer.param_groups]  # as on a GPU, where a recorded step reads them
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    set_lr(optimizer, 0, 10, config)
    assert sorted(rate.item() for rate in rates) == pytest.approx([0.1, 0.25])


def test_one_update_is_adamw_by_hand() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(2.0)
    optimizer = build_optimizer(layer, OptimConfig(lr=0.1, weight_decay=0.5, eps=1e-8))
    layer.weight.grad = torch.tensor([[3.0]])
    optimizer.step()
    # decay 2 - 0.1*0.5*2 = 1.9; the first step of Adam is the sign of the gradient: 1.9 - 0.1
    assert layer.weight.item() == pytest.approx(1.8, abs=1e-6)


def test_a_learning_rate_of_zero_changes_nothing() -> None:
    layer = torch.nn.Linear(3, 3)
    before = [parameter.clone() for parameter in layer.parameters()]
    optimizer = build_optimizer(layer, OptimConfig(lr=0.0))
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))


def test_clipping_scales_to_the_limit_and_returns_the_norm_before() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], OptimConfig(grad_clip=1.0)).item() == pytest.approx(5.0)
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clip_gradients([parameter], OptimConfig(grad_clip=0.0)).item() == pytest.approx(1.0, rel=1e-5)
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    parameter.grad = torch.tensor([math.nan, 0.0])
    assert math.isnan(clip_gradients([parameter], OptimConfig()).item())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"beta2": 1.0}, "beta2"),
        ({"warmup_share": 1.0}, "warmup_share"),
        ({"min_lr_share": 1.5}, "min_lr_share"),
        ({"grad_clip": -1.0}, "grad_clip"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_a_bad_option_is_one_line_that_begins_with_its_field(options: dict, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected .*, got .*;"):
        OptimConfig(**options)
