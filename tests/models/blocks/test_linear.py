"""The linear baseline against the sum that defines it."""

import torch

from models.blocks.baselines import Linear
from tests.models.helpers import small, unit


def test_a_prediction_is_the_base_and_a_linear_map_of_the_last_chunks() -> None:
    model, context = small("linear", residual="none").eval(), unit(3, 6, 12)
    assert isinstance(model, Linear)
    lags = [matrix.weight for matrix in model.lags]
    last = sum(context[:, -1 - lag] @ lags[lag].T for lag in range(4))  # of six chunks it sees four
    expected = torch.nn.functional.normalize(last @ model.head.proj.weight.T, dim=-1)
    torch.testing.assert_close(model(context)[:, -1], expected)


def test_a_sum_of_two_contexts_gives_the_sum_of_what_each_gives() -> None:
    model = small("linear", residual="none").eval()
    assert isinstance(model, Linear)
    first, second = unit(2, 3, 12), unit(2, 3, 12, seed=1)

    def hidden(context: torch.Tensor) -> torch.Tensor:
        caught: list[torch.Tensor] = []
        handle = model.dropout.register_forward_hook(lambda module, args, output: caught.append(output))
        model(context)
        handle.remove()
        return caught[0]

    torch.testing.assert_close(hidden(first + second), hidden(first) + hidden(second))
