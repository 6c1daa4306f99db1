"""What a worker trains with: exact steps, with and without hard negatives, validation scores and exact resumes."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.payload.duplicates import duplicate_ids
from data.payload.store import open_payload
from data.windows.table import build_windows
from models.cpu import fused
from models.spec.loss import LossConfig
from models.training.negatives import ArticleNegatives
from orchestrator.config.experiment import TrainingConfig, resolve_variant
from orchestrator.trials.learner import GatherTable, Learner, reciprocal_ranks


def learner(
    payload_folder: Path,
    *,
    model: str = "mamba_s",
    dropout: float = 0.2,
    article_negatives: int = 0,
    compile: bool = False,
    **layers: int,
) -> tuple[Learner, np.ndarray]:
    payload = open_payload(payload_folder)
    rows = build_windows(payload.article_index, payload.chunk_index, 5, 7).rows
    loss = LossConfig(article_negatives=article_negatives)
    training = TrainingConfig(batch_size=32, loss=loss, precision="bfloat16" if compile else "float32", compile=compile)
    sizes = {} if model == "amn" else {"d_state": 8, "head_dim": 16}
    variant = resolve_variant(model, {"d_model": 16, "dropout": dropout, **sizes, **layers}, training)
    assert variant is not None
    table = GatherTable(payload.vectors, duplicate_ids(payload.vectors), payload.article_index, torch.device("cpu"))
    negatives = ArticleNegatives(payload.article_index, article_negatives)
    made = Learner(variant, table, negatives, context_length=5, total_steps=20, seed=1, rank=0, num_workers=1)
    return made, rows


RANKED = [
    # Targets at 0, 90 and 180 degrees. The first prediction is nearest to its own target; the second points at 180
    # degrees, so its target at 90 degrees comes second; the third points at 0 degrees: its target comes last.
    (((1, 0), (0, 1), (-1, 0)), ((1, 0), (-0.8, 0.6), (1, 0)), (0, 1, 2), (1, 1 / 2, 1 / 3)),
    # The two equal targets count once, so the first target is second, not third.
    (((0, 1), (1, 0), (1, 0)), ((1, 0), (1, 0), (1, 0)), (0, 1, 1), (1 / 2, 1, 1)),
    # Nothing scores higher than NaN, and it is found nowhere.
    (((1, 0), (0, 1)), ((float("nan"), 0), (0, 1)), (0, 1), (0, 1)),
]


@pytest.mark.parametrize(("target", "pred", "ids", "expected"), RANKED)
def test_the_reciprocal_rank_counts_distinct_candidates_that_score_higher(target, pred, ids, expected):
    found = reciprocal_ranks(torch.tensor(pred, dtype=torch.float32), torch.tensor(target) * 1.0, torch.tensor(ids))
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("article_negatives", [0, 4])
def test_a_resumed_learner_takes_the_same_step_bit_for_bit(rotation_payload, article_negatives):
    whole, rows = learner(rotation_payload, article_negatives=article_negatives)
    whole.start_epoch(1)
    whole.step(rows[:32])
    state = torch.load(_saved(whole.state()), weights_only=True)
    whole.start_epoch(2)
    expected = whole.step(rows[32:64])

    resumed, _ = learner(rotation_payload, article_negatives=article_negatives)
    resumed.load_state(state)
    resumed.start_epoch(2)
    assert resumed.step(rows[32:64]) == expected
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(rotation_payload):
    made, rows = learner(rotation_payload)
    made.start_epoch(1)
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))
    before = [parameter.clone() for parameter in made.model.parameters()]
    assert not np.isfinite(made.step(rows[:32])["grad_norm"])
    assert made.steps == 0
    for left, right in zip(before, made.model.parameters(), strict=True):
        assert torch.equal(torch.nan_to_num(left), torch.nan_to_num(right))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`", "ignore:training.precision")
@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("mamba_s", {"ssm_layers": 1}),
        ("mamba_sandwich", {"ssm_layers": 1, "attention_layers": 1}),
        ("mamba_h", {"num_groups": 1, "ssm_per_group": 1}),
        ("amn", {}),
    ],
)
def test_a_step_is_one_graph_without_a_break_and_compiled_it_is_the_same_step(
    rotation_payload, model, layers, monkeypatch
):
    """As on a GPU: the composed form, traced whole; the traced operations run here one by one, without a compiler."""
    monkeypatch.setattr(fused, "MAX_LENGTH", 0)

    trace = partial(torch.compile, backend="aot_eager", fullgraph=True)

    def steps_with(compiler: Callable[..., Any]) -> list[dict[str, float]]:
        monkeypatch.setattr(torch, "compile", lambda objective, mode: compiler(objective))
        made, rows = learner(rotation_payload, model=model, compile=True, **layers)
        made.start_epoch(1)
        return [made.step(rows[start : start + 32]) for start in (0, 32, 64)]

    assert steps_with(trace) == steps_with(lambda objective: objective)


def test_validation_ranks_among_all_targets_and_its_mrr_is_over_novel_windows(rotation_payload, monkeypatch):
    ranked = np.array([1.0, 0.5, 0.25, 0.2])
    monkeypatch.setattr("orchestrator.trials.learner.reciprocal_ranks", lambda *_: ranked)
    made, rows = learner(rotation_payload)
    scores = made.validate(rows[:4], np.array([False, True, True, False]))
    assert set(scores) == {"val_loss", "val_cosine", "val_mrr", "val_mrr_all"}
    assert -1.0 <= scores["val_cosine"] <= 1.0
    assert (scores["val_mrr"], scores["val_mrr_all"]) == (0.375, pytest.approx(1.95 / 4))
    assert made.validate(rows[:4], np.zeros(4, bool))["val_mrr"] == pytest.approx(1.95 / 4)


def test_validation_of_predictions_that_are_no_numbers_has_no_score(rotation_payload):
    made, rows = learner(rotation_payload)
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))
    scores = made.validate(rows[:48], np.ones(48, bool))
    assert set(scores) == {"val_mrr"}
    assert np.isnan(scores["val_mrr"])


def test_predictions_are_unit_rows_in_the_order_of_the_windows(rotation_payload):
    made, rows = learner(rotation_payload)
    predictions = made.predict(rows[:40], batch_size=16)
    np.testing.assert_allclose(np.linalg.norm(predictions, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(made.predict(rows[16:20]), predictions[16:20], atol=1e-5)


def _saved(state: dict) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
