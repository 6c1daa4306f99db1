"""What was tried: each row is made once and does what its name says, on a world of a few articles."""

import math
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from data.worlds.make import make_world, write_world
from models.spec.loss import LossConfig
from models.training.losses import Loss
from orchestrator.config.load import load_config
from tests.benchmarks.tries import losses, models
from tests.benchmarks.tries.rows import LINE, ROWS, VARIANT, Predictions, Trier, mixed, predict
from tests.benchmarks.tries.seeds import TOGETHER

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "worlds.yaml"
SMALL = "variants.mamba_s={d_model: 32, d_state: 16, head_dim: 32, ssm_layers: 1, residual: fitted, direct_chunks: 2}"
RECALL = "training.loss={infonce: 0.0, cosine: 0.0, recall: 1.0, dense: false, recall_chunks: 200}"
E1, E2, E3 = torch.eye(3)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    payload = write_world(make_world("switch", num_chunks=3_000), folder / "payload", "switch")
    return load_config(
        EXPERIMENT, (f"data.payload={payload.path}", SMALL, RECALL, "training.epochs=1"), (VARIANT, LINE)
    )


@pytest.fixture(scope="module")
def made(config):
    return dict(predict(config, list(ROWS)))


def test_every_row_is_made_in_one_of_the_processes():
    assert sorted(chain.from_iterable(TOGETHER)) == sorted(ROWS)


def test_every_row_predicts_unit_vectors_for_all_queries(made):
    assert len({found.shape for found in made.values()}) == 1
    for name, found in made.items():
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(found)), abs=1e-5), name


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ("whitened_ridge", VARIANT)])
def test_a_row_is_neither_the_line_nor_the_variant_it_is_held_against(made, name):
    assert not np.array_equal(made[name], made["whitened_ridge"])
    assert not np.array_equal(made[name], made[VARIANT])


def test_a_prediction_without_its_contexts_span_keeps_what_is_outside_of_it():
    context = torch.stack([E1, E2, E1])[None]  # a chunk may stand in a context twice
    prediction = ((E1 + E3) / math.sqrt(2))[None]
    assert models.without_own_span(prediction, context, 1.0)[0].tolist() == pytest.approx(E3.tolist(), abs=1e-6)
    half = models.without_own_span(prediction, context, 0.5)[0]
    assert half.tolist() == pytest.approx([1 / math.sqrt(5), 0.0, 2 / math.sqrt(5)], abs=1e-6)


def test_a_prediction_without_its_contexts_mean_steps_away_from_it():
    context = torch.stack([E1, E1])[None]
    found = models.without_own_mean(torch.tensor([[0.6, 0.8, 0.0]]), context, 0.6)
    assert found[0].tolist() == pytest.approx(E2.tolist(), abs=1e-6)


def test_a_mix_goes_from_one_prediction_to_the_other():
    one, other = Predictions(E1[None], E1[None]), Predictions(E2[None], E2[None])
    test = [mix.test[0].tolist() for mix in mixed(one, other)]
    assert test[0] == [0.0, 1.0, 0.0]
    assert test[2] == pytest.approx([1 / math.sqrt(2), 1 / math.sqrt(2), 0.0])
    assert test[4] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("of_ranks", "expected"),
    [
        (losses.recall_at(5), 0.5),  # a target at rank 5 counts half
        (losses.recall_at(50), 1 - 1 / 1.01),
        (losses.logarithm, math.log(2)),
    ],
)
def test_a_loss_of_a_target_at_rank_five(of_ranks, expected):
    assert of_ranks(torch.tensor([[5.0]])).item() == pytest.approx(expected)


def test_a_loss_counts_the_own_context_only_where_it_is_ranked():
    # The target is orthogonal to the prediction, the context's chunk is the prediction: it stands above the target.
    vectors, ids = torch.stack([E1, E2])[None], torch.arange(2)[None]
    drawn = (-E1)[None], torch.tensor([7])
    loss = Loss(LossConfig(infonce=0.0, cosine=0.0, recall=1.0, dense=False, recall_temperature=1e-4))
    assert losses.RankLoss(loss, torch.mean)(E1[None, None], vectors, ids, drawn=drawn).total == pytest.approx(2.0)
    without = losses.RankLoss(loss, torch.mean, own_context=False)
    assert without(E1[None, None], vectors, ids, drawn=drawn).total == pytest.approx(1.0)


def test_an_averaged_learner_is_judged_by_the_mean_and_trains_on_without_it(config):
    trier = Trier(config)
    training, val = trier.training, trier.training.questions.val
    plain, averaged = training.learner(VARIANT), training.learner(VARIANT, models.AveragedLearner)
    batch = training.windows[: plain.training.batch_size]
    seen = []
    for _ in range(2):
        for learner in (plain, averaged):
            learner.start_epoch(1)
            learner.step(batch)
        seen.append(plain.model.head.proj.weight.detach().clone())
        averaged.validate(val.windows, val.novel)
    mean = 0.99 * seen[0] + 0.01 * seen[1]  # the mean starts at the weights after the first step
    assert torch.allclose(averaged.model.head.proj.weight, mean, atol=1e-7)
    averaged.start_epoch(2)
    assert torch.equal(averaged.model.head.proj.weight, seen[1])
