"""The output head: its direct path. Its base, share and rotations are in test_line and test_corruption."""

import torch

from models.blocks.head import PredictionHead, last_chunks
from tests.models.helpers import unit


def test_the_last_chunks_stand_nearest_first_with_zeros_before_the_first() -> None:
    context = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    expected = torch.tensor([[[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 1.0, 2.0], [5.0, 6.0, 3.0, 4.0]]])
    torch.testing.assert_close(last_chunks(context, 2), expected)


def test_a_direct_path_adds_a_linear_map_of_the_last_chunks_to_base_and_output() -> None:
    head, hidden, context = PredictionHead(8, 12, "mean", direct_chunks=2), torch.randn(3, 4, 8), unit(3, 4, 12)
    without = head(hidden, context)
    head.direct.weight.data.normal_()
    added = context[:, -1] @ head.direct.weight[:, :12].T + context[:, -2] @ head.direct.weight[:, 12:].T
    output = torch.nn.functional.rms_norm(hidden[:, -1], (8,)) @ head.proj.weight.T + context.mean(1)
    expected = torch.nn.functional.normalize(output + added, dim=-1)
    torch.testing.assert_close(head(hidden, context)[:, -1], expected)
    assert not torch.allclose(without[:, -1], expected)


def test_the_direct_path_starts_at_nothing_and_is_no_part_of_the_share() -> None:
    head, hidden, context = PredictionHead(8, 12, "fitted", direct_chunks=2), torch.randn(3, 4, 8), unit(3, 4, 12)
    head.eval().line.set(torch.eye(12).expand(4, 12, 12).contiguous(), torch.zeros(4, 12))
    torch.testing.assert_close(head(hidden, context), head.line(context))
    head.direct.weight.data.normal_()
    head.share.fill_(0.0)
    expected = torch.nn.functional.normalize(
        head.line(context) + last_chunks(context, 2) @ head.direct.weight.T, dim=-1
    )
    torch.testing.assert_close(head(hidden, context), expected)
