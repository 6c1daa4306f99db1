"""The fitted line as the start of a model."""

import io

import pytest
import torch

from data.errors import UserError
from models.blocks.build import build_variant
from models.blocks.head import PredictionHead
from models.blocks.line import FittedLine
from models.training.checkpoint import load_model, save_model

# Two lags in the plane: the last chunk as it is, the one before it turned by 90 degrees.
WEIGHT = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [-1.0, 0.0]]])
BIAS = torch.tensor([[0.0, 3.0], [0.0, -1.0]])


def test_a_position_sees_the_chunks_up_to_its_own_and_its_own_bias():
    line = FittedLine()
    line.set(WEIGHT, BIAS)
    context = torch.tensor([[[4.0, 0.0], [3.0, 1.0]]])
    # Position 0: (4, 0) + (0, 3) = (4, 3). Position 1: (3, 1) + (4, 0) turned = (0, 4) + (0, -1) = (3, 4).
    torch.testing.assert_close(line(context), torch.tensor([[[0.8, 0.6], [0.6, 0.8]]]))
    torch.testing.assert_close(line(context[:, :1]), torch.tensor([[[0.8, 0.6]]]))


def test_a_context_longer_than_the_fits_is_refused():
    line = FittedLine()
    line.set(WEIGHT, BIAS)
    with pytest.raises(UserError, match="expected contexts of at most 2 chunks, as in its training, got 3"):
        line(torch.zeros(1, 3, 2))
    with pytest.raises(UserError, match=r"expected weight \(1, 2, 2\)"):
        line.set(WEIGHT, BIAS[:1])


@pytest.mark.parametrize("name", ["mamba_s", "amn"])
def test_an_untrained_model_is_its_line_and_its_first_gradient_is_not_zero(name):
    sizes = {"head_dim": 4} if name == "mamba_s" else {}
    model = build_variant(name, 2, d_model=8, residual="fitted", **sizes)
    model.head.line.set(WEIGHT, BIAS)
    context = torch.nn.functional.normalize(torch.randn(3, 2, 2), dim=-1)
    predictions = model.eval()(context)
    torch.testing.assert_close(predictions, model.head.line(context))
    predictions.select(-1, 0).sum().backward()
    assert model.head.proj.weight.grad.abs().sum() > 0.0


def test_outside_of_training_a_share_of_the_output_is_added_to_the_line():
    head = PredictionHead(2, 2, "fitted", norm=False)
    head.line.set(torch.eye(2)[None], torch.zeros(1, 2))
    with torch.no_grad():
        head.proj.weight.copy_(torch.eye(2))
        head.share.fill_(0.5)
    hidden, context = torch.tensor([[[0.0, 1.5]]]), torch.tensor([[[1.0, 0.0]]])
    # In training (1, 0) + (0, 1.5), else (1, 0) + (0, 0.75).
    torch.testing.assert_close(head(hidden, context), torch.tensor([[[2.0, 3.0]]]) / 13**0.5)
    torch.testing.assert_close(head.eval()(hidden, context), torch.tensor([[[0.8, 0.6]]]))


def test_a_checkpoint_carries_the_line_and_the_share():
    model = build_variant("amn", 2, d_model=8, residual="fitted")
    model.head.line.set(WEIGHT, BIAS)
    with torch.no_grad():
        model.head.proj.weight.normal_()
        model.head.share.fill_(0.5)
    file = io.BytesIO()
    save_model(file, model, epoch=0, metrics={}, provenance={})
    file.seek(0)
    loaded = load_model(file).model
    context = torch.randn(3, 2, 2)
    torch.testing.assert_close(loaded(context), model.eval()(context))
    assert "head.line.weight" not in dict(loaded.named_parameters())
