"""The training loop on a real learner with a stream, an evaluator and a report that are plain objects: no Ray."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.config import DataConfig
from data.io import read_json
from data.prepare import prepare_data
from data.windows.stream import epoch_order, order_digest
from data.windows.table import WindowProvenance, save_windows
from evaluation.measures.rules import parse_rule
from models.training.checkpoint import load_model
from orchestrator.config.experiment import TrainingConfig, resolve_variant
from orchestrator.gates import EarlyStopping, Gate, StopRules
from orchestrator.run.ledger import VariantFolder
from orchestrator.trials import train_loop
from orchestrator.trials.setup import TrialSetup, from_report

BATCH_SIZE, EPOCHS, NUM_SMOKE = 64, 3, 20
SELECTION = EarlyStopping(metric="val_mrr", mode="max", patience=3)
RULES = StopRules(epochs=EPOCHS, gates=(), early_stopping=None, baselines={})


class Evaluator:
    """Answers every smoke evaluation with the same R@5, at once, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, np.ndarray]] = []
        self.evaluate = SimpleNamespace(remote=self._evaluate)
        self.triage = SimpleNamespace(remote=lambda query_set, predictions: [{"question": "why?"}])

    def _evaluate(self, variant: str, query_set: str, predictions: np.ndarray, **_: Any) -> dict[str, Any]:
        self.asked.append((variant, query_set, predictions))
        return {"metrics": {"r@5": 0.1}, "ci": {}}


class Shard:
    """Ray Data's iterator over the rows of every epoch, in two blocks an epoch."""

    def __init__(self, num_windows: int) -> None:
        self._num_windows = num_windows

    def iter_batches(self, **_: Any) -> Iterator[dict[str, np.ndarray]]:
        for epoch in range(1, EPOCHS + 1):
            for window in np.array_split(epoch_order(self._num_windows, 3, epoch), 2):
                yield {"window": window, "epoch": np.full(len(window), epoch, np.int16)}


class Trial:
    """A trial of AMN on the rotation payload, in a folder of its own."""

    def __init__(self, folder: Path, payload: Path, **training: Any) -> None:
        data = prepare_data(DataConfig(source="payload", payload=str(payload)), folder, seed=3)
        sha256 = data.payload.provenance.sha256
        provenance = WindowProvenance(payload_sha256=sha256, context_length=5, min_article_chunks=7, seed=3)
        save_windows(folder / "windows", data.splits, provenance)
        settings = TrainingConfig(epochs=EPOCHS, batch_size=BATCH_SIZE, val_windows=50, **training)
        variant = resolve_variant("amn", {"d_model": 16}, settings)
        assert variant is not None
        self.num_windows = len(data.splits.train)
        self.evaluator = Evaluator()
        self.folder = VariantFolder(folder / "amn")
        self.folder.path.mkdir()
        self.reported: list[dict[str, Any] | None] = []
        self.setup = TrialSetup(
            variant=variant,
            folder=self.folder.path,
            payload_path=payload,
            windows_path=folder / "windows",
            seed=3,
            smoke_epochs=(2,),
            num_smoke_queries=NUM_SMOKE,
            smoke_latency_queries=0,
            latency_limits_ms={},
            rules=RULES,
            selection=SELECTION,
            evaluator=self.evaluator,
            device="cpu",
            cpus_per_worker=1,
            gpus_per_worker=0.0,
            provenance={"payload_sha256": sha256},
        )

    def train(self, *, interrupted_after: int | None = None) -> list[dict[str, Any]]:
        """Train to the end, or until the report of an epoch is interrupted; return metrics.jsonl."""

        def report(result: dict[str, Any]) -> None:
            self.reported.append(from_report(result))
            if interrupted_after == len(self.reported):
                raise KeyboardInterrupt

        shard = Shard(self.num_windows)
        device = torch.device("cpu")
        train_loop.train_variant(self.setup, shard=shard, report=report, rank=0, num_workers=1, device=device)
        return self.folder.records()


@pytest.fixture
def trial(tmp_path: Path, rotation_payload: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(train_loop.ray, "get", lambda answer: answer)
    return Trial(tmp_path, rotation_payload)


def test_every_epoch_is_written_and_reported_once_with_what_it_saw(trial: Trial) -> None:
    records = trial.train()
    assert trial.reported == records
    assert [record["epoch"] for record in records] == [1, 2, 3]
    steps = trial.num_windows // BATCH_SIZE
    assert [record["windows_seen"] for record in records] == [BATCH_SIZE * steps * epoch for epoch in (1, 2, 3)]
    digests = [order_digest(epoch_order(trial.num_windows, 3, epoch)) for epoch in (1, 2, 3)]
    assert [record["order_digest"] for record in records] == digests
    assert {"loss", "val_loss", "val_cosine", "val_mrr", "seconds"} <= set(records[0])
    assert records[0]["first_step_at"] >= records[0]["first_epoch_at"] >= records[0]["started_at"]
    assert "started_at" not in records[1]


def test_the_smoke_epoch_asks_the_evaluator_with_unit_predictions_and_keeps_the_answer(trial: Trial) -> None:
    records = trial.train()
    assert [record.get("smoke") for record in records] == [None, {"r@5": 0.1}, None]
    ((variant, query_set, predictions),) = trial.evaluator.asked
    assert (variant, query_set, predictions.shape) == ("amn", "smoke", (NUM_SMOKE, 16))
    np.testing.assert_allclose(np.linalg.norm(predictions, axis=1), 1.0, atol=1e-5)
    assert read_json(trial.folder.smoke(2)) == {"epoch": 2, "metrics": {"r@5": 0.1}, "ci": {}}


def test_a_trial_that_misses_its_gate_ends_there_and_is_asked_why(trial: Trial) -> None:
    gate = Gate(epoch=2, prune_unless=(parse_rule("r@5 >= 0.3"),))
    trial.setup = replace(trial.setup, rules=replace(RULES, gates=(gate,)))
    assert [record["epoch"] for record in trial.train()] == [1, 2]
    assert read_json(trial.folder.smoke(2))["triage"] == [{"question": "why?"}]


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_trial_goes_on_as_if_never_interrupted(
    trial: Trial, tmp_path: Path, rotation_payload: Path, epoch: int
) -> None:
    (tmp_path / "whole").mkdir()
    whole = Trial(tmp_path / "whole", rotation_payload).train()
    with pytest.raises(KeyboardInterrupt):
        trial.train(interrupted_after=epoch)
    records = trial.train()
    assert [record["epoch"] for record in records] == [1, 2, 3]
    for key in ("loss", "val_mrr", "order_digest"):
        assert [record[key] for record in records] == [record[key] for record in whole]


def test_a_trial_that_had_ended_trains_no_further(trial: Trial) -> None:
    losses = [record["loss"] for record in trial.train()]
    trial.reported.clear()
    assert [record["loss"] for record in trial.train()] == losses
    assert trial.reported == [None]


def test_a_loss_that_is_not_finite_ends_the_trial_without_a_checkpoint_of_it(
    tmp_path: Path, rotation_payload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        train_loop.Learner, "step", lambda self, rows: {"loss": float("nan"), "grad_norm": float("inf")}
    )
    trial = Trial(tmp_path, rotation_payload)
    (record,) = trial.train()
    assert record["diverged"] == "loss nan, gradient norm inf at step 1 of epoch 1"
    assert record["windows_seen"] == 0
    assert not trial.folder.last.exists()
    assert not trial.folder.best.exists()


def test_best_holds_the_epoch_that_the_selection_chooses_and_last_the_last(trial: Trial) -> None:
    # The loss falls: with mode "max" its first epoch is the best one.
    trial.setup = replace(trial.setup, selection=EarlyStopping(metric="loss", mode="max", patience=3))
    losses = [record["loss"] for record in trial.train()]
    assert losses[0] == max(losses)
    assert load_model(trial.folder.best).epoch == 1
    assert json.loads(train_loop.load_training_state(trial.folder.last)["records"])[-1]["epoch"] == 3
