"""Losses against hand-computed numbers and naive loops."""

import math

import numpy as np
import pytest
import torch

from evaluation.measures.metrics import soft_recall
from models.spec.loss import LossConfig
from models.training.losses import LOSSES, Loss
from tests.models.helpers import unit

BATCH = (unit(4, 3, 5), unit(4, 4, 5, seed=1), torch.arange(16).view(4, 4))  # pred, vectors, ids


def only(name: str, **options) -> LossConfig:
    weights = {loss: 1.0 if loss == name else 0.0 for loss in LOSSES}
    return LossConfig(**{**weights, **options})


def naive_infonce(pred, vectors, ids, config: LossConfig) -> float:
    """Loop over predictions and candidates."""
    batch, width = ids.shape
    length = width - 1 - config.article_negatives
    losses = []
    for i in range(batch):
        for t in range(length) if config.dense else [length - 1]:
            positions = range(length) if config.dense and config.negatives == "all" else [t]
            candidates = [(j, s + 1) for j in range(batch) for s in positions if (j, s) != (i, t)]
            if config.context_negatives:
                candidates += [(i, s) for s in range(t + 1)]
            candidates += [(i, length + 1 + e) for e in range(config.article_negatives)]
            products = [pred[i, t] @ vectors[j, s] for j, s in candidates if ids[j, s] != ids[i, t + 1]]
            positive = pred[i, t] @ vectors[i, t + 1] / config.temperature
            logits = torch.stack([positive, *[product / config.temperature for product in products]])
            losses.append(torch.logsumexp(logits, 0) - positive)
    return torch.stack(losses).mean().item()


def test_infonce_of_two_orthogonal_targets() -> None:
    # both predictions are exact: logits 1/0.5 for the own target, 0 for the other, loss = log(1 + exp(-2))
    targets = torch.eye(2)
    vectors = torch.stack([torch.zeros(2, 2), targets], dim=1)  # context of one zero row, then the target
    out = Loss(only("infonce", temperature=0.5))(targets[:, None], vectors, torch.arange(4).view(2, 2))
    assert out.total.item() == pytest.approx(math.log(1 + math.exp(-2.0)), rel=1e-6)


def test_a_duplicate_of_the_target_is_no_negative() -> None:
    targets = torch.eye(3)[[0, 1, 1]]
    vectors = torch.stack([torch.zeros(3, 3), targets], dim=1)
    ids = torch.tensor([[7, 0], [8, 1], [9, 1]])
    out = Loss(only("infonce", temperature=1.0))(targets[:, None], vectors, ids)
    # window 0 has two negatives at 0, windows 1 and 2 have one each, since their targets are the same row
    want = (math.log(1 + 2 * math.exp(-1.0)) + 2 * math.log(1 + math.exp(-1.0))) / 3
    assert out.total.item() == pytest.approx(want, rel=1e-6)


def test_the_recall_counts_drawn_chunks_and_the_context_that_is_nearer_than_the_target() -> None:
    # From the prediction at 0 degrees the target stands at 30; of the context 20 is nearer and 40 is not; of the drawn
    # chunks 10 is nearer, 50 is not, and one is the target itself. Each stands for ten rows of 30: rank 1 + 10 + 1.
    def at(*degrees: float) -> torch.Tensor:
        angles = torch.deg2rad(torch.tensor(degrees))
        return torch.stack([angles.cos(), angles.sin()], dim=-1)

    loss = Loss(only("recall", recall_temperature=1e-4, dense=False), num_rows=30)
    drawn = at(10, 50, 30), torch.tensor([7, 8, 2])
    out = loss(at(90, 0)[None], at(20, 40, 30)[None], torch.tensor([[0, 1, 2]]), drawn=drawn)
    want = (1 / (1 + (12 / 5) ** 2) + 1 / (1 + (12 / 50) ** 2)) / 2
    assert out.total.item() == pytest.approx(1 - want, rel=1e-5)
    assert out.total.item() == pytest.approx(1 - np.mean([soft_recall(np.array([12]), k) for k in (5, 50)]), rel=1e-5)


def test_a_dense_recall_leaves_out_what_its_position_has_not_seen() -> None:
    # Every position predicts the direction of chunk 2, and every other chunk is at 90 degrees to it, as near as any
    # target but chunk 2 (half a step). Position 0 has not seen chunk 2 and counts only chunk 0, half: rank 1.5.
    # The target of position 1 is chunk 2: rank 1. Position 2 counts chunks 0 and 1 half and chunk 2: rank 3.
    vectors, drawn = torch.eye(4)[None], (-torch.ones(1, 4) / 2, torch.tensor([9]))
    loss = Loss(only("recall", recall_temperature=1e-4))
    out = loss(torch.eye(4)[None, [2, 2, 2]], vectors, torch.arange(4)[None], drawn=drawn)
    rank = torch.tensor([1.5, 1.0, 3.0])
    want = torch.stack([1 / (1 + (rank / k) ** 2) for k in (5, 50)]).mean()
    assert out.total.item() == pytest.approx(1 - want.item(), rel=1e-5)


def test_a_step_up_the_ranks_lowers_the_recall_loss() -> None:
    pred = torch.tensor([[[0.0, 1.0, 0.0]]], requires_grad=True)
    vectors = torch.eye(3)[None, [2, 0]]  # context, target
    drawn = torch.eye(3)[[1]], torch.tensor([9])
    Loss(only("recall", recall_temperature=0.5))(pred, vectors, torch.arange(2)[None], drawn=drawn).total.backward()
    towards_target, towards_drawn, _ = (-pred.grad).flatten().tolist()
    assert towards_target > 0 > towards_drawn


def test_the_recall_without_drawn_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="loss: expected drawn chunks to rank the targets among, got none"):
        Loss(only("recall"))(*BATCH)


OPTIONS = [
    {"dense": True, "negatives": "all"},
    {"dense": True, "negatives": "position"},
    {"dense": False},
    {"dense": True, "context_negatives": True},
    {"dense": False, "context_negatives": True},
    {"dense": True, "article_negatives": 2},
    {"dense": False, "context_negatives": True, "article_negatives": 1},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_infonce_equals_the_naive_loop(options: dict) -> None:
    config = only("infonce", temperature=0.2, **options)
    pred, vectors = unit(4, 3, 6), unit(4, 4 + config.article_negatives, 6, seed=1)
    ids = torch.randint(0, 9, vectors.shape[:2], generator=torch.Generator().manual_seed(2))  # with duplicates
    out = Loss(config)(pred, vectors, ids)
    assert out.total.item() == pytest.approx(naive_infonce(pred, vectors, ids, config), rel=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_two_workers_average_to_the_loss_and_gradient_of_one(options: dict) -> None:
    config = LossConfig(mse=0.1, recall=0.1, recall_temperature=0.1, **options)
    loss = Loss(config)
    pred = unit(6, 3, 5).requires_grad_()
    vectors = unit(6, 4 + config.article_negatives, 5, seed=1)
    ids = torch.randint(0, 15, vectors.shape[:2], generator=torch.Generator().manual_seed(2))
    drawn = unit(9, 5, seed=3), torch.arange(10, 19)  # some of them are targets
    whole = loss(pred, vectors, ids, drawn=drawn).total
    halves = [loss(pred[own], vectors, ids, own, drawn).total for own in (slice(0, 3), slice(3, 6))]
    both = torch.stack(halves).mean()
    assert both.item() == pytest.approx(whole.item(), rel=1e-5)
    assert torch.allclose(torch.autograd.grad(both, pred)[0], torch.autograd.grad(whole, pred)[0], atol=1e-6)


def test_cosine_and_mse_of_hand_made_rows() -> None:
    pred = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    vectors = torch.stack([torch.zeros(2, 2), targets], dim=1)
    ids = torch.arange(4).view(2, 2)
    assert Loss(only("cosine"))(pred, vectors, ids).total.item() == pytest.approx(0.2)  # (0 + 0.4) / 2
    assert Loss(only("mse"))(pred, vectors, ids).total.item() == pytest.approx(0.4)  # (0 + 0.16 + 0.64) / 2


def test_the_total_is_the_weighted_sum_of_the_reported_parts() -> None:
    out = Loss(LossConfig(infonce=0.7, cosine=0.2, mse=0.1))(*BATCH)
    assert set(out.parts) == {"infonce", "cosine", "mse"}
    want = 0.7 * out.parts["infonce"] + 0.2 * out.parts["cosine"] + 0.1 * out.parts["mse"]
    assert out.total.item() == pytest.approx(want.item(), rel=1e-6)
    assert not any(part.requires_grad for part in out.parts.values())


def test_only_the_last_position_counts_when_not_dense() -> None:
    pred, vectors, ids = BATCH
    other = pred.clone()
    other[:, :2] = unit(4, 2, 5, seed=9)
    loss = Loss(LossConfig(dense=False))
    assert loss(pred, vectors, ids).total.equal(loss(other, vectors, ids).total)


def test_a_learned_temperature_starts_where_configured_is_reported_and_trained() -> None:
    loss = Loss(only("infonce", temperature=0.07, learn_temperature=True))
    out = loss(*BATCH)
    out.total.backward()
    assert out.parts["temperature"].item() == pytest.approx(0.07)
    assert [name for name, _ in loss.named_parameters()] == ["log_temperature"]
    assert loss.log_temperature.grad.item() != 0.0
    fixed = Loss(only("infonce", temperature=0.07))(*BATCH)
    assert fixed.total.item() == pytest.approx(out.total.item(), rel=1e-6)


def test_the_loss_is_float32_under_autocast() -> None:
    loss = Loss(LossConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(*BATCH).total
    assert cast.dtype == torch.float32
    assert cast.equal(loss(*BATCH).total)


@pytest.mark.parametrize(
    ("pred", "vectors", "ids"),
    [
        ((4, 2, 5), (4, 4, 5), (4, 4)),
        ((3, 3, 5), (4, 4, 5), (4, 4)),
        ((4, 3, 6), (4, 4, 5), (4, 4)),
        ((4, 3, 5), (4, 4, 5), (4, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(pred: tuple, vectors: tuple, ids: tuple) -> None:
    with pytest.raises(ValueError, match=r"^loss: expected pred .* got .*;") as caught:
        Loss(LossConfig())(torch.zeros(pred), torch.zeros(vectors), torch.zeros(ids, dtype=torch.int64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"infonce": -0.1}, "infonce: expected a number in "),
        ({"infonce": 0.0, "cosine": 0.0}, "infonce: expected infonce, cosine, mse or recall above 0"),
        ({"temperature": 0.0}, "temperature: expected a number > 0, got 0.0;"),
        ({"recall": -1.0}, "recall: expected a number in "),
        ({"recall_temperature": 0.0}, "recall_temperature: expected a number > 0, got 0.0;"),
        ({"recall_chunks": 0}, "recall_chunks: expected an integer >= 1, got 0;"),
        ({"article_negatives": -1}, "article_negatives: expected an integer >= 0, got -1;"),
        ({"negatives": "none"}, "negatives: expected one of all, position, got 'none';"),
    ],
)
def test_a_bad_option_is_one_line_that_begins_with_its_field(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        LossConfig(**options)
