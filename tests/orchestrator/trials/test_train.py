"""One trial's training with a real learner and a real judge; stream and evaluator are plain objects: no cluster."""

import io
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.config import DataConfig
from data.io import read_json
from data.payload.store import open_payload
from data.prepare import prepare_data
from data.windows.stream import epoch_order, order_digest
from evaluation.measures.rules import parse_rule
from models.spec.loss import LossConfig
from models.training.checkpoint import load_model, load_training_state
from orchestrator.config.experiment import resolve_variant
from orchestrator.config.sections import TrainingConfig
from orchestrator.gates import EarlyStopping, Gate, StopRules
from orchestrator.run.ledger import Ledger
from orchestrator.run.records import read_predictions
from orchestrator.screen.monitor import Monitor
from orchestrator.training.scheduler import GateScheduler
from orchestrator.trials import telling, train
from orchestrator.trials.inside import NodeDrainsError
from orchestrator.trials.learner import GatherTable
from orchestrator.trials.setup import TrialSetup, TrialWindows, to_report
from tests.orchestrator.test_gates import BEST_EPOCHS, scored

BATCH_SIZE, EPOCHS = 64, 3
RULES = StopRules(epochs=EPOCHS, gates=(), early_stopping=None, baselines={})
PRUNING = replace(RULES, gates=(Gate(epoch=2, prune_unless=(parse_rule("novel.r@5 >= 0.3"),)),))
# The loss of AMN on these vectors falls: the second epoch is no better by a rule that wants it high.
STOPPING = replace(RULES, early_stopping=EarlyStopping(metric="loss", mode="max", patience=1))

# The last chunk itself, whatever came before it.
LINE = (
    # Not contiguous, as that of the evaluator.
    np.asfortranarray(np.eye(16, dtype=np.float32)[None] * np.eye(5, dtype=np.float32)[0][:, None, None]),
    np.zeros((5, 16), np.float32),
)


def remote(function: Callable[..., Any]) -> Any:
    """A method of an actor that answers at once."""
    return SimpleNamespace(remote=function)


class Evaluator:
    """Answers every smoke evaluation with the same R@5, reads files, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, np.ndarray]] = []
        self.evaluate, self.read_file = remote(self._evaluate), remote(self._read_file)

    def _evaluate(self, variant: str, query_set: str, predictions: np.ndarray, **_: Any) -> dict[str, Any]:
        self.asked.append((variant, query_set, predictions))
        return {"metrics": {"novel.r@5": 0.1}, "ci": {"p95_ms": [0.3, 0.5]}}

    def _read_file(self, path: str) -> Any:
        return np.fromfile(path, np.uint8) if Path(path).is_file() else None


class Shard:
    """Ray Data's iterator over the rows of every epoch, in two blocks an epoch."""

    def __init__(self, num_windows: int) -> None:
        self._num_windows = num_windows

    def iter_batches(self, **_: Any) -> Iterator[dict[str, np.ndarray]]:
        for epoch in range(1, EPOCHS + 1):
            for window in np.array_split(epoch_order(self._num_windows, 3, epoch), 2):
                yield {"window": window, "epoch": np.full(len(window), epoch, np.int16)}


class Trial:
    """A trial of AMN on the rotation payload with a run folder and a judge of its own."""

    def __init__(self, path: Path, payload: Path, **training: Any) -> None:
        data = prepare_data(DataConfig(source="payload", payload=str(payload)), path, seed=3)
        splits, sha256 = data.splits, data.payload.provenance.sha256
        residual = training.pop("residual", "mean")
        config = TrainingConfig(epochs=EPOCHS, batch_size=BATCH_SIZE, **training)
        variant = resolve_variant("amn", {"d_model": 16, "residual": residual}, config)
        assert variant is not None
        self.ledger = Ledger(path / "run")
        self.folder = self.ledger.variant("amn")
        self.num_windows = len(splits.train)
        self.reported: list[dict[str, Any]] = []
        self.evaluator = Evaluator()
        self.judge_by(RULES)
        self.setup = TrialSetup(
            name="amn",
            variant=variant,
            seed=3,
            payload_path=payload,
            windows=TrialWindows(
                train=splits.train.rows,
                val=splits.val.rows[:50],
                val_novel=np.arange(50) < 25,
                smoke=splits.val.rows[:20],
                test=splits.test.rows[:10],
            ),
            line=LINE if residual == "fitted" else None,
            smoke_epochs=(2,),
            smoke_latency_queries=0,
            selection=EarlyStopping(metric="val_soft_r@5", mode="max", patience=3),
            pauses=(),
            device="cpu",
            cpus_per_worker=1,
            gpus_per_worker=0.0,
            placement="pack",
            evaluator=self.evaluator,
            provenance={"payload_sha256": sha256},
            last=self.folder.last,
            best=self.folder.best,
        )

    def judge_by(self, rules: StopRules) -> None:
        """A driver starts: its judge takes in what the run folder holds."""
        questions: Any = SimpleNamespace(triage=lambda name: [])
        self.judge = GateScheduler(self.ledger, ["amn"], questions)
        self.judge.open({"amn": rules}, Monitor(io.StringIO(), {"amn": EPOCHS}))

    def report(self, record: dict[str, Any], files: Mapping[str, Any]) -> Any:
        if record:  # the question at the start brings nothing
            self.reported.append(record)
        return self.judge.take("amn", to_report(record, {}, "its name"), files)

    def train(self, report: Any = None) -> list[dict[str, Any]]:
        """Train until the judge ends it or `report` raises; return metrics.jsonl."""
        device, orders = torch.device("cpu"), Shard(self.num_windows)
        train.train(self.setup, orders=orders, report=report or self.report, rank=0, num_workers=1, device=device)
        return self.folder.records()

    def train_and_die(self, when: Callable[[dict[str, Any]], bool], written: tuple[str, ...] | None) -> None:
        """Train up to a report of which the driver has `written` these files, and its record, or nothing (None)."""

        def report(record: dict[str, Any], files: Mapping[str, Any]) -> Any:
            if not when(record):
                return self.report(record, files)
            if written is not None:
                self.report(record, {name: files[name] for name in written if name in files})
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.train(report)


@pytest.fixture
def make_trial(tmp_path: Path, rotation_payload: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trial]:
    monkeypatch.setattr(train.ray, "get", lambda answer: answer)
    monkeypatch.setattr(telling, "TELL_EVERY_S", math.inf)  # no Ray runs here, and an epoch may take over a second
    return lambda name, **training: Trial(tmp_path / name, rotation_payload, **training)


@pytest.fixture
def trial(make_trial: Callable[[str], Trial]) -> Trial:
    return make_trial("trial")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were trained."""
    sizes: list[int] = []
    step = train.Learner.step
    monkeypatch.setattr(train.Learner, "step", lambda self, rows: (sizes.append(len(rows)), step(self, rows))[1])
    return sizes


# ---- an epoch


def test_every_epoch_is_reported_once_with_what_it_saw(trial: Trial) -> None:
    records = trial.train()
    assert [record["epoch"] for record in trial.reported[:-1]] == [1, 2, 3]
    steps = trial.num_windows // BATCH_SIZE
    assert [record["windows_seen"] for record in records] == [BATCH_SIZE * steps * epoch for epoch in (1, 2, 3)]
    digests = [order_digest(epoch_order(trial.num_windows, 3, epoch)) for epoch in (1, 2, 3)]
    assert [record["order_digest"] for record in records] == digests
    assert {"loss", "val_loss", "val_cosine", "val_mrr", "val_soft_r@5", "seconds"} <= set(records[0])
    assert records[0]["first_step_at"] >= records[0]["first_epoch_at"] >= records[0]["started_at"]
    assert "started_at" not in records[1]


def test_the_smoke_epoch_asks_the_evaluator_with_unit_predictions_and_keeps_the_answer(trial: Trial) -> None:
    records = trial.train()
    assert [record.get("smoke") for record in records] == [None, {"novel.r@5": 0.1}, None]
    ((variant, query_set, predictions),) = trial.evaluator.asked
    assert (variant, query_set, predictions.shape) == ("amn", "smoke", (20, 16))
    np.testing.assert_allclose(np.linalg.norm(predictions, axis=1), 1.0, atol=1e-5)
    assert read_json(trial.folder.smoke(2)) == {
        "epoch": 2,
        "metrics": {"novel.r@5": 0.1},
        "ci": {"p95_ms": [0.3, 0.5]},
    }


def test_a_loss_that_is_not_finite_ends_the_trial_without_a_checkpoint_of_it(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"loss": float("nan"), "grad_norm": float("inf")}
    monkeypatch.setattr(train.Learner, "step", lambda self, rows: broken)
    (record,) = trial.train()
    assert record["diverged"] == "loss nan, gradient norm inf at step 1 of epoch 1"
    assert record["windows_seen"] == 0
    assert {path.name for path in trial.folder.path.iterdir()} == {"metrics.jsonl"}


def test_predictions_that_are_no_numbers_make_the_trial_diverged(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(self: Any, rows: np.ndarray) -> dict[str, float]:
        next(self.model.parameters()).data.fill_(float("nan"))
        return {"loss": 1.0, "grad_norm": 1.0}

    monkeypatch.setattr(train.Learner, "step", spoil)
    trial.train()
    end = trial.ledger.end_of("amn")
    assert end is not None
    assert (end.ending.name, end.reason) == ("DIVERGED", "predictions of epoch 1 are not finite")
    assert {path.name for path in trial.folder.path.iterdir()} == {"metrics.jsonl"}


# ---- the judge's word


@pytest.mark.parametrize(
    ("rules", "epochs", "predicts"), [(RULES, 3, True), (STOPPING, 2, True), (PRUNING, 2, False)], ids=str
)
def test_no_step_is_taken_after_a_verdict_and_only_a_survivor_predicts(
    trial: Trial, steps: list[int], rules: StopRules, epochs: int, predicts: bool
) -> None:
    trial.judge_by(rules)
    trial.train()
    assert steps == [BATCH_SIZE] * (epochs * (trial.num_windows // BATCH_SIZE))
    assert [record.get("epoch") for record in trial.reported] == [*range(1, epochs + 1), *[None] * predicts]
    assert trial.folder.predictions.is_file() == predicts


def test_a_survivor_predicts_the_test_windows_with_its_best_weights(trial: Trial) -> None:
    trial.setup = replace(trial.setup, selection=EarlyStopping(metric="loss", mode="max", patience=3))
    losses = [record["loss"] for record in trial.train()]
    assert losses[0] == max(losses)
    assert load_training_state(trial.folder.last)["epoch"] == 3
    best = load_model(trial.folder.best)
    predictions, about = read_predictions(trial.folder)
    assert (best.epoch, about["best_epoch"], len(about["predict_ms"])) == (1, 1, 10)
    contexts = open_payload(trial.setup.payload_path).vectors[trial.setup.windows.test[:, :-1]]
    with torch.inference_mode():
        expected = best.model(torch.from_numpy(contexts))[:, -1].numpy()
    np.testing.assert_array_equal(predictions, expected)


def test_other_test_windows_change_nothing_but_the_predictions(make_trial: Callable[[str], Trial]) -> None:
    def judged(trial: Trial) -> tuple[Any, Any]:
        trial.judge_by(STOPPING)
        records = [{key: record[key] for key in ("loss", "val_mrr")} for record in trial.train()]
        return records, [{**line, "time": None} for line in trial.ledger.decisions_of("amn")]

    one, other = make_trial("one"), make_trial("other")
    other.setup = replace(other.setup, windows=replace(other.setup.windows, test=other.setup.windows.train[:10]))
    assert judged(one) == judged(other)
    assert not np.array_equal(read_predictions(one.folder)[0], read_predictions(other.folder)[0])
    assert {query_set for _, query_set, _ in one.evaluator.asked} == {"smoke"}


def test_a_step_sees_chunks_of_training_windows_alone(
    make_trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    last: list[np.ndarray] = []
    gather, update = GatherTable.gather, train.Learner._update

    def gathers(table: GatherTable, rows: np.ndarray) -> Any:
        last.append(rows)
        return gather(table, rows)

    def updates(learner: Any, vectors: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        seen.update(np.concatenate([rows.ravel() for rows in last[-2:]]).tolist())  # its windows, and what it drew
        assert len(given) == 3
        return update(learner, vectors, *given)

    monkeypatch.setattr(GatherTable, "gather", gathers)
    monkeypatch.setattr(train.Learner, "_update", updates)
    trial = make_trial("drawn", loss=LossConfig(infonce=0.0, cosine=0.0, recall=1.0, recall_chunks=500))
    trial.train()
    assert seen == set(trial.setup.windows.train.ravel().tolist())


# ---- a model that starts from a fitted line


def test_epoch_0_is_the_line_and_may_be_the_best(make_trial: Callable[..., Trial]) -> None:
    trial = make_trial("still", residual="fitted", optimizer={"lr": 0.0})
    records = trial.train()
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    assert (records[0]["windows_seen"], "loss" in records[0]) == (0, False)
    assert records[0]["val_soft_r@5"] == records[3]["val_soft_r@5"]
    predictions, about = read_predictions(trial.folder)
    assert about["best_epoch"] == load_model(trial.folder.best).epoch == 0
    last_chunk = open_payload(trial.setup.payload_path).vectors[trial.setup.windows.test[:, -2]]
    np.testing.assert_allclose(predictions, last_chunk, atol=1e-5)


def test_the_line_is_validated_once_for_all_trials_of_a_process(
    make_trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_scores_of_lines", {})
    validated: list[int] = []
    validate = train.Learner.validate
    monkeypatch.setattr(
        train.Learner, "validate", lambda self, *given: (validated.append(self.steps), validate(self, *given))[1]
    )
    first, second, other = (make_trial(name, residual="fitted") for name in ("first", "second", "other"))
    other.setup.windows.val_novel[:] = True
    scores = [
        {name: value for name, value in trial.train()[0].items() if name.startswith("val_")}
        for trial in (first, second, other)
    ]
    assert validated.count(0) == 2  # of the first, and of the one with other windows to choose by
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_trial_on_a_line_that_was_cut_short_goes_on_as_if_it_never_was(
    make_trial: Callable[..., Trial], epoch: int
) -> None:
    whole, cut = make_trial("whole", residual="fitted"), make_trial("cut", residual="fitted")
    cut.train_and_die(lambda record: record.get("epoch") == epoch, ("best.pt", "last.pt"))
    cut.judge_by(RULES)
    expected = [(record["epoch"], record.get("loss"), record["val_soft_r@5"]) for record in whole.train()]
    assert [(record["epoch"], record.get("loss"), record["val_soft_r@5"]) for record in cut.train()] == expected
    np.testing.assert_array_equal(read_predictions(cut.folder)[0], read_predictions(whole.folder)[0])


# ---- an attempt after another one


@pytest.mark.parametrize(
    ("epoch_s", "pauses", "sent"), [(40, (), [1, 3]), (80, (), [1, 2, 3]), (40, (2,), [1, 2, 3])], ids=str
)
def test_a_checkpoint_is_sent_at_first_after_its_minutes_at_a_pause_and_at_the_end(
    make_trial: Callable[..., Trial],
    monkeypatch: pytest.MonkeyPatch,
    epoch_s: int,
    pauses: tuple[int, ...],
    sent: list[int],
) -> None:
    seconds = itertools.count(step=epoch_s)
    clock = SimpleNamespace(time=time.time, perf_counter=time.perf_counter, monotonic=lambda: next(seconds))
    monkeypatch.setattr(train, "time", clock)
    trial, found = make_trial("rare", checkpoint_minutes=1.0), []
    trial.setup = replace(trial.setup, pauses=pauses)

    def report(record: dict[str, Any], files: Mapping[str, Any]) -> Any:
        if "last.pt" in files:
            found.append(record["epoch"])
        return trial.report(record, files)

    trial.train(report)
    assert found == sent


def test_a_trial_with_rare_checkpoints_that_was_cut_short_goes_on_as_if_it_never_was(
    make_trial: Callable[..., Trial], steps: list[int]
) -> None:
    whole, cut = make_trial("whole"), make_trial("cut", checkpoint_minutes=1000.0)
    expected = [(record["epoch"], record["loss"], record["val_soft_r@5"]) for record in whole.train()]
    cut.train_and_die(lambda record: record.get("epoch") == 2, ("best.pt",))
    assert load_training_state(cut.folder.last)["epoch"] == 1
    cut.judge_by(RULES)
    steps.clear()
    assert [(record["epoch"], record["loss"], record["val_soft_r@5"]) for record in cut.train()] == expected
    assert len(steps) == 2 * (cut.num_windows // BATCH_SIZE)  # epochs 2 and 3
    np.testing.assert_array_equal(read_predictions(cut.folder)[0], read_predictions(whole.folder)[0])


@pytest.mark.parametrize("written", [None, ("best.pt",), ("best.pt", "last.pt")], ids=str)
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_trial_that_was_cut_short_goes_on_as_if_it_never_was(
    make_trial: Callable[[str], Trial], epoch: int, written: tuple[str, ...] | None
) -> None:
    whole, cut = make_trial("whole"), make_trial("cut")
    cut.train_and_die(lambda record: record.get("epoch") == epoch, written)
    cut.judge_by(RULES)
    expected = whole.train()
    for key in ("epoch", "loss", "val_mrr", "order_digest", "windows_seen"):
        assert [record[key] for record in cut.train()] == [record[key] for record in expected], key
    (left, about_left), (right, about_right) = read_predictions(cut.folder), read_predictions(whole.folder)
    np.testing.assert_array_equal(left, right)
    assert about_left["best_epoch"] == about_right["best_epoch"]


def leave_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let a notice that the node is taken away come after this step."""
    asked = iter(range(1, 10_000))
    monkeypatch.setattr(train.DrainNotice, "came", lambda self: next(asked) == step)


@pytest.mark.parametrize("residual", ["mean", "fitted"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_trial_that_leaves_its_node_inside_an_epoch_goes_on_after_that_step(
    make_trial: Callable[..., Trial], steps: list[int], monkeypatch: pytest.MonkeyPatch, epoch: int, residual: str
) -> None:
    whole, left = make_trial("whole", residual=residual), make_trial("left", residual=residual)
    expected = whole.train()
    taken = len(steps)
    leave_after(monkeypatch, (epoch - 1) * (taken // EPOCHS) + 2)
    with pytest.raises(NodeDrainsError, match=rf"left .* after step 2 of epoch {epoch}$"):
        left.train()
    assert left.reported[-1]["leaves"].endswith(f", which is being taken away, after step 2 of epoch {epoch}")
    left.judge_by(RULES)
    for key in ("epoch", "loss", "grad_norm", "val_mrr", "order_digest", "windows_seen"):
        assert [record.get(key) for record in left.train()] == [record.get(key) for record in expected], key
    assert len(steps) == 2 * taken
    np.testing.assert_array_equal(read_predictions(left.folder)[0], read_predictions(whole.folder)[0])


def test_a_trial_that_left_goes_back_to_its_last_epoch_where_that_checkpoint_is_damaged(
    make_trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = make_trial("whole"), make_trial("left")
    expected = whole.train()
    leave_after(monkeypatch, whole.num_windows // BATCH_SIZE + 2)
    with pytest.raises(NodeDrainsError):
        left.train()
    left.folder.last.write_bytes(b"half of it")
    left.judge_by(RULES)
    records = left.train()
    assert [record["loss"] for record in records] == [record["loss"] for record in expected]
    assert "went back to the checkpoint before it" in records[1]["went_back"]


@pytest.mark.parametrize("left", [None, b"half of it"], ids=["missing", "damaged"])
def test_without_the_best_weights_a_trial_starts_anew_and_says_so(trial: Trial, left: bytes | None) -> None:
    trial.train_and_die(lambda record: record.get("epoch") == 3, None)
    before = trial.folder.records()
    trial.folder.best.unlink()
    if left is not None:
        trial.folder.best.write_bytes(left)
    records = trial.train()
    assert [record["epoch"] for record in records] == [*range(1, EPOCHS + 1)]
    assert [record["loss"] for record in records[:2]] == [record["loss"] for record in before[:2]]
    assert "best.pt: " in records[0]["went_back"] and records[0]["went_back"].endswith("training starts anew")
    assert trial.folder.best.is_file()


def test_a_checkpoint_whose_epoch_has_no_record_is_not_gone_on_from(trial: Trial) -> None:
    trial.train_and_die(lambda record: record.get("epoch") == 3, None)
    lines = trial.folder.metrics.read_text().splitlines(keepends=True)
    trial.folder.metrics.write_text("".join(lines[:1]))
    trial.judge_by(RULES)
    records = trial.train()
    assert [record["epoch"] for record in records] == [*range(1, EPOCHS + 1)]
    assert "last.pt: its epoch 2 has no record" in records[1]["went_back"]


def test_a_checkpoint_of_another_run_is_refused_by_name(trial: Trial) -> None:
    trial.train_and_die(lambda record: record.get("epoch") == 3, None)
    trial.setup.provenance["run"] = "another/amn"
    with pytest.raises(ValueError, match=r"last\.pt: expected what this run wrote \(another/amn\), got a file"):
        trial.train()


@pytest.mark.parametrize("rules", [RULES, STOPPING], ids=["finished", "early stopped"])
@pytest.mark.parametrize("again", ["Tune's retry", "the same command"])
@pytest.mark.parametrize("minutes", [0.0, 1000.0])
def test_a_survivor_that_died_while_it_predicted_predicts_again_and_does_not_train(
    make_trial: Callable[..., Trial], steps: list[int], rules: StopRules, again: str, minutes: float
) -> None:
    trial = make_trial("died", checkpoint_minutes=minutes)
    trial.judge_by(rules)
    trial.train_and_die(lambda record: "predicted" in record, None)
    trained, records = len(steps), trial.folder.records()
    if again == "the same command":
        trial.judge_by(rules)
    assert trial.train() == records
    assert len(steps) == trained
    assert trial.folder.predictions.is_file()


# ---- the best weights


@pytest.mark.parametrize(("rule", "values", "epoch"), BEST_EPOCHS)
def test_the_best_weights_are_those_of_the_epoch_that_last_improved(
    rule: EarlyStopping, values: tuple[float | None, ...], epoch: int
) -> None:
    best = train.Best(rule)
    improved = [best.improves({"epoch": one.epoch, **one.metrics}) for one in scored(*values)]
    assert best.epoch == epoch == max(number for number, better in enumerate(improved, start=1) if better)
    assert improved[0]


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b""], ids=["half", "empty"]
)
def test_a_damaged_last_checkpoint_goes_back_to_the_one_before_and_says_so(
    make_trial: Callable[[str], Trial], damage: Callable[[bytes], bytes]
) -> None:
    whole, cut = make_trial("whole"), make_trial("cut")
    expected = whole.train()
    cut.train_and_die(lambda record: record.get("epoch") == 3, None)
    cut.folder.last.write_bytes(damage(cut.folder.last.read_bytes()))
    cut.judge_by(RULES)
    assert [record["loss"] for record in cut.train()] == [record["loss"] for record in expected]
    said = [record["went_back"] for record in cut.folder.records() if "went_back" in record]
    assert [text.partition(": expected a complete checkpoint")[0] for text in said] == [f"{cut.setup.last}: checkpoint"]
    np.testing.assert_array_equal(read_predictions(cut.folder)[0], read_predictions(whole.folder)[0])
