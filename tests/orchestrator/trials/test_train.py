"""The training of a trial on a real learner, with a stream, an evaluator and a judge that are plain objects: no Ray."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.config import DataConfig
from data.prepare import prepare_data
from data.windows.stream import epoch_order, order_digest
from models.training.checkpoint import load_model
from orchestrator.config.experiment import TrainingConfig, resolve_variant
from orchestrator.gates import EarlyStopping
from orchestrator.run.ledger import VariantFolder
from orchestrator.run.records import keep_epoch, keep_predictions
from orchestrator.trials import train
from orchestrator.trials.setup import TrialSetup, TrialWindows, Verdict

BATCH_SIZE, EPOCHS, NUM_SMOKE, NUM_TEST = 64, 3, 20, 30


def remote(answer: Any) -> Any:
    """A method of an actor; `ray.get` hands its answer on."""
    return SimpleNamespace(remote=answer)


class Shard:
    """Ray Data's iterator over the rows of every epoch, in two blocks an epoch."""

    def __init__(self, num_windows: int) -> None:
        self._num_windows = num_windows

    def iter_batches(self, **_: Any) -> Iterator[dict[str, np.ndarray]]:
        for epoch in range(1, EPOCHS + 1):
            for window in np.array_split(epoch_order(self._num_windows, 3, epoch), 2):
                yield {"window": window, "epoch": np.full(len(window), epoch, np.int16)}


class Trial:
    """A trial of AMN on the rotation payload; its judge keeps what it reports, and stops it after `last_epoch`."""

    def __init__(self, folder: Path, payload: Path, **training: Any) -> None:
        data = prepare_data(DataConfig(source="payload", payload=str(payload)), folder, seed=3)
        train_rows, val_rows, test_rows = (table.rows for _, table in data.splits.items())
        settings = TrainingConfig(epochs=EPOCHS, batch_size=BATCH_SIZE, precision="float32", **training)
        variant = resolve_variant("amn", {"d_model": 16}, settings)
        assert variant is not None
        self.num_windows = len(train_rows)
        self.folder = VariantFolder(folder / "amn")
        self.smoke_asked: list[tuple[str, str, np.ndarray]] = []
        self.reported: list[dict[str, Any]] = []
        self.last_epoch, self.verdict = EPOCHS, "survived"
        windows = TrialWindows(
            train=train_rows,
            val=val_rows[:50],
            val_novel=np.ones(50, bool),
            smoke=val_rows[:NUM_SMOKE],
            test=test_rows[:NUM_TEST],
        )
        self.setup = TrialSetup(
            variant=variant,
            seed=3,
            payload_path=payload,
            windows=windows,
            smoke_epochs=(2,),
            smoke_latency_queries=0,
            selection=EarlyStopping(metric="val_mrr", mode="max", patience=3),
            device="cpu",
            cpus_per_worker=1,
            gpus_per_worker=0.0,
            evaluator=SimpleNamespace(
                ready=remote(lambda: None), evaluate=remote(self._smoke), read_file=remote(self._read_file)
            ),
            provenance={"payload_sha256": data.payload.provenance.sha256},
            last=self.folder.last,
            best=self.folder.best,
        )

    def _smoke(self, variant: str, query_set: str, predictions: np.ndarray, **_: Any) -> dict[str, Any]:
        self.smoke_asked.append((variant, query_set, predictions))
        return {"metrics": {"r@5": 0.1}, "ci": {"r@5": [0.0, 0.2]}}

    def _read_file(self, path: str) -> bytes | None:
        return Path(path).read_bytes() if Path(path).is_file() else None

    def _judge(self, record: dict[str, Any], files: dict[str, Any]) -> Verdict:
        self.reported.append(record)
        if "predicted" in record:
            keep_predictions(self.folder, record["predicted"], files["predictions.npy"])
            return "ended"
        keep_epoch(self.folder, record, files)
        verdict: Any = self.verdict if record["epoch"] >= self.last_epoch or "diverged" in record else "continue"
        if verdict == "interrupt":
            raise KeyboardInterrupt
        return verdict

    def train(self) -> list[dict[str, Any]]:
        """Train until the judge says that it is over; return the epochs in metrics.jsonl."""
        shard, device = Shard(self.num_windows), torch.device("cpu")
        train.train(self.setup, orders=shard, report=self._judge, rank=0, num_workers=1, device=device)
        return self.folder.records()


@pytest.fixture
def trial(tmp_path: Path, rotation_payload: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(train.ray, "get", lambda answer: answer)
    return Trial(tmp_path, rotation_payload)


def test_every_epoch_is_reported_once_with_what_it_saw(trial: Trial) -> None:
    records = trial.train()
    assert [record["epoch"] for record in records] == [1, 2, 3]
    steps = trial.num_windows // BATCH_SIZE
    assert [record["windows_seen"] for record in records] == [BATCH_SIZE * steps * epoch for epoch in (1, 2, 3)]
    digests = [order_digest(epoch_order(trial.num_windows, 3, epoch)) for epoch in (1, 2, 3)]
    assert [record["order_digest"] for record in records] == digests
    assert {"loss", "val_loss", "val_cosine", "val_mrr", "seconds"} <= set(records[0])
    assert records[0]["first_step_at"] >= records[0]["first_epoch_at"] >= records[0]["started_at"]
    assert "started_at" not in records[1]


def test_the_smoke_epoch_asks_the_evaluator_with_unit_predictions_and_reports_the_answer(trial: Trial) -> None:
    records = trial.train()
    assert [record.get("smoke") for record in records] == [None, {"r@5": 0.1}, None]
    assert records[1]["smoke_ci"] == {"r@5": [0.0, 0.2]}
    ((variant, query_set, predictions),) = trial.smoke_asked
    assert (variant, query_set, predictions.shape) == ("amn", "smoke", (NUM_SMOKE, 16))
    np.testing.assert_allclose(np.linalg.norm(predictions, axis=1), 1.0, atol=1e-5)


def test_a_trial_ends_where_the_judge_says_and_predicts_the_test_windows_only_when_it_survived(trial: Trial) -> None:
    trial.last_epoch, trial.verdict = 2, "ended"
    assert [record["epoch"] for record in trial.train()] == [1, 2]
    assert len(trial.reported) == 2
    assert not trial.folder.predictions.exists()


def test_a_survivor_predicts_with_its_best_weights(trial: Trial) -> None:
    # The loss falls: with mode "max" its first epoch is the best one.
    trial.setup = replace(trial.setup, selection=EarlyStopping(metric="loss", mode="max", patience=3))
    losses = [record["loss"] for record in trial.train()]
    assert losses[0] == max(losses)
    assert load_model(trial.folder.best).epoch == 1
    assert trial.reported[-1]["predicted"]["best_epoch"] == 1
    assert len(trial.reported[-1]["predicted"]["predict_ms"]) >= NUM_TEST
    predictions = np.load(trial.folder.predictions)
    assert predictions.shape == (NUM_TEST, 16)
    best = load_model(trial.folder.best).model.eval()
    context = torch.from_numpy(
        train.open_table(trial.setup.payload_path, trial.setup.provenance["payload_sha256"], None, torch.device("cpu"))
        .gather(trial.setup.windows.test)[0]
        .numpy()[:, :-1]
    )
    with torch.inference_mode():
        np.testing.assert_allclose(best(context)[:, -1].numpy(), predictions, atol=1e-6)


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_trial_goes_on_as_if_never_interrupted(
    trial: Trial, tmp_path: Path, rotation_payload: Path, epoch: int
) -> None:
    (tmp_path / "whole").mkdir()
    uninterrupted = Trial(tmp_path / "whole", rotation_payload)
    whole = uninterrupted.train()
    trial.last_epoch, trial.verdict = epoch, "interrupt"
    with pytest.raises(KeyboardInterrupt):
        trial.train()
    trial.last_epoch, trial.verdict = EPOCHS, "survived"
    records = trial.train()
    assert [record["epoch"] for record in records] == [1, 2, 3]
    for key in ("loss", "val_mrr", "order_digest"):
        assert [record[key] for record in records] == [record[key] for record in whole]
    np.testing.assert_array_equal(np.load(trial.folder.predictions), np.load(uninterrupted.folder.predictions))


def test_a_trial_whose_predictions_alone_are_missing_makes_them_and_trains_no_further(trial: Trial) -> None:
    trial.train()
    before = np.load(trial.folder.predictions)
    trial.folder.predictions.unlink()
    trial.reported.clear()
    trial.setup = replace(trial.setup, only_predict=True)
    trial.train()
    assert [set(record) for record in trial.reported] == [{"predicted"}]
    np.testing.assert_array_equal(np.load(trial.folder.predictions), before)


@pytest.mark.parametrize(
    ("method", "answer", "diverged"),
    [
        ("step", {"loss": np.nan, "grad_norm": np.inf}, "loss nan, gradient norm inf at step 1 of epoch 1"),
        ("validate", {"val_mrr": np.nan}, "predictions of epoch 1 are not finite"),
    ],
)
def test_what_is_not_finite_ends_the_trial_without_a_checkpoint_of_it(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, method: str, answer: dict[str, float], diverged: str
) -> None:
    monkeypatch.setattr(train.Learner, method, lambda *_: answer)
    trial.verdict = "ended"
    (record,) = trial.train()
    assert record["diverged"] == diverged
    assert not trial.folder.last.exists()
    assert not trial.folder.best.exists()
