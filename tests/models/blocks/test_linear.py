"""The linear baseline against the sum that defines it."""

import torch

from models.blocks.baselines import Linear
from tests.models.helpers import small, unit


def test_a_prediction_is_the_base_and_a_linear_map_of_the_last_chunks() -> None:
    model, context = small("linear", residual="none").eval(), unit(3, 6, 12)
    assert isinstance(model, Linear)
    lags = model.head.proj.weight.split(12, dim=1)  # of six chunks it sees four
    last = sum(context[:, -1 - lag] @ lags[lag].T for lag in range(4))
    torch.testing.assert_close(model(context)[:, -1], torch.nn.functional.normalize(last, dim=-1))


def test_nothing_stands_for_the_chunks_before_the_first() -> None:
    model, context = small("linear", residual="none").eval(), unit(3, 2, 12)
    longer = torch.cat([torch.zeros(3, 4, 12), context], dim=1)
    torch.testing.assert_close(model(context), model(longer)[:, 4:])


def test_on_a_fitted_line_every_number_of_the_line_can_be_reached() -> None:
    model = small("linear", residual="fitted")
    assert isinstance(model, Linear)
    assert [tuple(p.shape) for p in model.parameters()] == [(12, 4 * 12)]
    assert not model.head.proj.weight.any()  # so the untrained model is the line
