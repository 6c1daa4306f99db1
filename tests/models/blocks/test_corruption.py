"""Corruptions of the training input."""

import pytest
import torch

from models.blocks.corruption import ContextCorruption, RandomRotation, drop_last, replace_one
from models.blocks.head import PredictionHead, prefix_mean
from models.spec.specs import NORM_EPS
from tests.models.helpers import small, unit


def windows() -> torch.Tensor:
    return 1.0 + torch.arange(400 * 5, dtype=torch.float32).view(400, 5, 1).expand(400, 5, 3)


def test_the_last_positions_are_zeroed_never_the_first() -> None:
    torch.manual_seed(0)
    kept = (drop_last(windows(), 0.5) != 0).all(-1)
    lengths = kept.sum(1)
    assert torch.equal(kept, torch.arange(5) < lengths[:, None])  # a prefix survives
    assert lengths.min() == 1 and (lengths == 5).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_one_position_at_most_is_replaced_by_that_of_another_window() -> None:
    torch.manual_seed(0)
    context = windows()
    replaced = (replace_one(context, 0.5) != context).all(-1)
    assert replaced.sum(1).max() == 1
    assert replaced.any(1).float().mean().item() == pytest.approx(0.5, abs=0.08)
    out = replace_one(context, 1.0)
    row, position = (out != context).all(-1).nonzero()[7].tolist()
    assert torch.equal(out[row, position], context[row - 1, position])


def test_evaluation_is_left_alone() -> None:
    context = windows()
    assert ContextCorruption(1.0, 1.0).eval()(context) is context


@pytest.mark.parametrize("option", ["context_dropout", "span_corruption", "rotation"])
def test_a_variant_corrupts_while_training_only(option: str) -> None:
    model, context = small("mamba_s", **{option: 1.0}), unit(8, 5, 12)
    clean = model.eval()(context)
    assert not torch.allclose(model.train()(context), clean, atol=1e-3)
    assert torch.equal(model.eval()(context), clean)


def test_a_rotation_keeps_the_products_within_a_window_and_is_another_one_for_each() -> None:
    torch.manual_seed(0)
    context = unit(1, 5, 12).expand(4, 5, 12)
    rotated, rotations = RandomRotation(1.0, 12)(context)
    assert rotations is not None
    assert torch.allclose(rotated @ rotated.mT, context @ context.mT, atol=1e-5)
    assert (rotated[0] - rotated[1]).norm() > 1.0
    assert torch.allclose(rotations.rotate_back(rotated), context, atol=1e-5)


def test_a_share_of_the_windows_is_rotated_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    rotation, context = RandomRotation(0.25, 12), unit(400, 5, 12)
    rotated = (rotation(context)[0] != context).flatten(1).any(1)
    assert rotated.float().mean().item() == pytest.approx(0.25, abs=0.08)
    seen, rotations = rotation.eval()(context)
    assert seen is context and rotations is None


def test_the_output_is_rotated_back_and_the_base_is_not_rotated() -> None:
    torch.manual_seed(0)
    head, hidden, context = PredictionHead(8, 12, "mean"), torch.randn(4, 5, 8), unit(4, 5, 12)
    _, rotations = RandomRotation(1.0, 12)(context)
    assert rotations is not None
    output = torch.nn.functional.rms_norm(hidden, (8,), eps=NORM_EPS) @ head.proj.weight.T
    expected = torch.nn.functional.normalize(rotations.rotate_back(output) + prefix_mean(context), dim=-1)
    assert torch.allclose(head(hidden, context, rotations), expected, atol=1e-6)
