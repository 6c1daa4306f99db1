"""What happens on Tune's events, with trials that are plain objects: no cluster."""

import io
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from ray.tune.experiment import Trial

from orchestrator.gates import StopRules, TrialDecision
from orchestrator.run.ledger import Ledger
from orchestrator.run.progress import Progress
from orchestrator.run.records import keep_epoch
from orchestrator.run.timeline import Timeline
from orchestrator.screen.monitor import Monitor
from orchestrator.training import tuning
from orchestrator.training.retries import Retries
from orchestrator.training.scheduler import GateScheduler
from orchestrator.training.tuning import Bookkeeper, last_line
from orchestrator.trials.setup import to_report

RULES = StopRules(epochs=4, gates=(), early_stopping=None, baselines={})
NODE_LOST = "ray.exceptions.ActorDiedError: The actor died because its node has died. Node Id: ab"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger(tmp_path / "run")
    opened.open({}, {})
    return opened


class Stage:
    """A bookkeeper with everything it tells."""

    def __init__(self, ledger: Ledger, silence_warning_s: float = 600.0, *, open_judge: bool = True) -> None:
        self.ledger, self.timeline, self.stream = ledger, Timeline(), io.StringIO()
        self.told: dict[str, Progress] = {}
        monitor = Monitor(self.stream, {"a": 4, "b": 4})
        self.judge = GateScheduler(ledger, ["a", "b"], Mock())
        if open_judge:
            self.judge.open({"a": RULES, "b": RULES}, monitor)
        self.keeper = Bookkeeper(
            ledger,
            self.timeline,
            monitor,
            judge=self.judge,
            retries=Retries({"a": 0, "b": 1}),
            every_turn=lambda: None,
            told=self.told.get,
            silence_warning_s=silence_warning_s,
        )

    def start(self, name: str) -> None:
        self.keeper.on_trial_start(0, [], trial(name))

    def report(self, name: str, epoch: int, **more: Any) -> None:
        record = {"epoch": epoch, "seconds": {"step": 2.0}, **more}
        self.keeper.on_trial_result(0, [], trial(name), to_report(record, {}, "x"))


def trial(name: str, error_file: str | None = None) -> Any:
    return SimpleNamespace(config={"trial": name}, error_file=error_file)


def keep(ledger: Ledger, *epochs: int) -> None:
    for epoch in epochs:
        keep_epoch(ledger.variant("a"), {"epoch": epoch}, {})


def decision(action: Any, epoch: int = 2) -> TrialDecision:
    return TrialDecision(epoch=epoch, rule="r", value=None, limit=None, passed=False, action=action, reason="why")


def test_an_epochs_seconds_are_counted_once_however_often_tune_repeats_it(ledger: Ledger) -> None:
    stage = Stage(ledger)
    stage.start("a")
    begun = stage.timeline.started
    stage.report("a", 1, started_at=begun + 1.0, first_epoch_at=begun + 2.5, first_step_at=begun + 3.0)
    stage.report("a", 1)
    stage.report("a", 2)
    times = stage.timeline.trials["a"]
    assert times["seconds"] == {"step": 4.0}
    events = [times[name] for name in ("worker_s", "first_epoch_s", "first_step_s")]
    assert events == [pytest.approx(1.0), pytest.approx(2.5), pytest.approx(3.0)]


def test_a_trials_predictions_are_its_own_time_and_a_slot_is_free_only_after_them(ledger: Ledger) -> None:
    stage = Stage(ledger)
    stage.start("a")
    stage.report("a", 1)
    after_epoch = stage.timeline.trials["a"]["last_report_s"]
    for _ in range(2):
        report = {"predicted": {}, "seconds": {"predict": 3.0}}
        stage.keeper.on_trial_result(0, [], trial("a"), to_report(report, {}, "x"))
    times = stage.timeline.trials["a"]
    assert times["seconds"] == {"step": 2.0, "predict": 3.0}
    assert times["last_report_s"] > after_epoch


def test_a_report_that_tune_makes_up_is_passed_over(ledger: Ledger) -> None:
    stage = Stage(ledger)
    stage.keeper.on_trial_result(0, [], trial("a"), {"done": True})
    assert stage.timeline.trials == {}


def test_a_trial_that_returns_without_a_verdict_failed(ledger: Ledger) -> None:
    stage = Stage(ledger)
    keep(ledger, 1, 2)
    stage.keeper.on_trial_complete(0, [], trial("a"))
    end = ledger.end_of("a")
    assert end is not None
    assert (end.ending.name, end.epoch, end.reason) == ("FAILED", 2, "the trial returned before its last epoch")
    assert "a: failed at epoch 2: the trial returned before its last epoch" in stage.stream.getvalue()


@pytest.mark.parametrize("earlier", ["fail", "interrupt"])
def test_what_an_earlier_launch_said_of_a_trial_is_no_verdict_on_this_one(ledger: Ledger, earlier: str) -> None:
    ledger.record("a", decision(earlier, epoch=1))
    keep(ledger, 3)
    stage = Stage(ledger)
    stage.keeper.on_trial_complete(0, [], trial("a"))
    end = ledger.end_of("a")
    assert end is not None
    assert (end.ending.name, end.epoch) == ("FAILED", 3)


def test_a_trial_that_returns_with_its_verdict_keeps_it(ledger: Ledger) -> None:
    stage = Stage(ledger)
    stage.judge.end("a", decision("prune"))
    stage.keeper.on_trial_complete(0, [], trial("a"))
    assert len(ledger.decisions_of("a")) == 1
    assert "ended_s" in stage.timeline.trials["a"]


def test_a_trial_that_raised_failed_for_the_reason_it_gave(ledger: Ledger, tmp_path: Path) -> None:
    stage = Stage(ledger)
    error = tmp_path / "error.txt"
    error.write_text('Traceback (most recent call last):\n  File "x.py", line 1\nOSError: disk full\n')
    stage.keeper.on_trial_error(0, [], trial("a", str(error)))
    end = ledger.end_of("a")
    assert end is not None
    assert (end.ending.name, end.epoch, end.reason) == ("FAILED", 0, "OSError: disk full")


def broke_off(stage: Stage, name: str, path: Path, error: str) -> None:
    path.write_text(error + "\n")
    stage.keeper.on_trial_recover(0, [], trial(name, str(path)))


def test_a_trial_that_breaks_off_too_often_failed_for_its_last_reason(ledger: Ledger, tmp_path: Path) -> None:
    stage = Stage(ledger)
    keep(ledger, 1, 2)
    broke_off(stage, "a", tmp_path / "error.txt", NODE_LOST)
    assert ledger.end_of("a") is None
    assert "a: lost (ray.exceptions.ActorDiedError: " in stage.stream.getvalue()
    assert "goes on after epoch 2" in stage.stream.getvalue()
    broke_off(stage, "a", tmp_path / "error.txt", "OSError: disk full")
    end = ledger.end_of("a")
    assert end is not None
    assert (end.ending.name, end.epoch, end.reason) == ("FAILED", 2, "OSError: disk full")
    assert [event["event"] for event in stage.timeline.events] == ["lost"]


def test_a_trial_that_could_not_be_started_because_its_node_went_is_started_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    stage, error = Stage(ledger), tmp_path / "error.txt"
    error.write_text(NODE_LOST + "\n")
    stage.keeper.on_trial_error(0, [], trial("a", str(error)))
    assert (stage.keeper.to_start_again, ledger.end_of("a")) == (["a"], None)
    assert "goes on from the start" in stage.stream.getvalue()
    for _ in range(3):
        stage.keeper.on_trial_error(0, [], trial("a", str(error)))
    end = ledger.end_of("a")
    assert end is not None and end.ending.name == "FAILED"  # a trial that takes its nodes down with it ends
    assert stage.keeper.to_start_again == ["a"] * 3


def test_a_trial_that_left_its_node_is_told_as_that(ledger: Ledger, tmp_path: Path) -> None:
    stage = Stage(ledger)
    left = "left lima, which is being taken away, after step 3 of epoch 1"
    for _ in range(9):  # however often: that never counts against the trial
        stage.keeper.on_trial_result(0, [], trial("a"), to_report({"leaves": left}, {}, "x"))
        broke_off(stage, "a", tmp_path / "error.txt", "ray.train.WorkerGroupError: whatever the group said")
    assert f"  a: {left}; goes on from there\n" in stage.stream.getvalue()
    assert {(event["event"], event["reason"]) for event in stage.timeline.events} == {("left", left)}
    assert ledger.end_of("a") is None
    broke_off(stage, "a", tmp_path / "error.txt", "OSError: disk full")
    assert ledger.end_of("a") is not None


def test_a_trial_that_was_given_up_is_stopped_and_not_started_again(ledger: Ledger, tmp_path: Path) -> None:
    stage = Stage(ledger)
    broke_off(stage, "a", tmp_path / "error.txt", "OSError: disk full")
    waiting = [SimpleNamespace(status=Trial.PENDING, config={"trial": name}) for name in ("a", "b")]
    controller = Mock(get_trials=lambda: [one for one in waiting if one.status == Trial.PENDING])
    controller.stop_trial = lambda one: setattr(one, "status", Trial.TERMINATED)
    assert stage.judge.choose_trial_to_run(controller) is waiting[1]
    assert waiting[0].status == Trial.TERMINATED
    stage.keeper.on_trial_complete(0, [], trial("a"))
    assert len(ledger.decisions_of("a")) == 1


def test_a_survivor_that_was_given_up_keeps_its_verdict(ledger: Ledger, tmp_path: Path) -> None:
    stage = Stage(ledger)
    stage.judge.end("a", decision("finish"))
    broke_off(stage, "a", tmp_path / "error.txt", "OSError: disk full")
    end = ledger.end_of("a")
    assert end is not None
    assert end.ending.name == "FINISHED"
    assert "a: an error after its end: OSError: disk full" in stage.stream.getvalue()


@pytest.mark.parametrize(("action", "status"), [("prune", "PRUNED"), ("finish", "FINISHED")])
def test_an_error_after_the_verdict_does_not_take_it_back(ledger: Ledger, action: str, status: str) -> None:
    stage = Stage(ledger)
    stage.judge.end("a", decision(action))
    stage.keeper.on_trial_error(0, [], trial("a"))
    end = ledger.end_of("a")
    assert end is not None
    assert end.ending.name == status
    assert "a: an error after its end: no traceback was kept; see ray.log" in stage.stream.getvalue()


def test_silence_is_told_with_what_is_free(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(tuning, "time", clock)
    monkeypatch.setattr(tuning, "num_placement_groups", lambda: 3)
    monkeypatch.setattr(tuning.ray, "available_resources", lambda: {"CPU": 1.0, "memory": 5.0})
    stage = Stage(ledger, silence_warning_s=60.0)
    for now, warnings in ((59.0, 0), (60.0, 1), (61.0, 1), (120.0, 2)):
        clock.now = now
        stage.keeper.on_step_begin(0, [])
        assert stage.stream.getvalue().count("warning: no report for 60 s; free: {'CPU': 1.0}; placement") == warnings
    stage.report("a", 1)
    clock.now = 179.0
    stage.keeper.on_step_begin(0, [])
    assert stage.stream.getvalue().count("warning") == 2


def test_the_wait_for_the_index_is_no_silence(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(tuning, "time", clock)
    stage = Stage(ledger, silence_warning_s=60.0, open_judge=False)
    clock.now = 600.0
    stage.keeper.on_step_begin(0, [])
    assert stage.stream.getvalue() == ""


def test_tunes_pickle_of_the_bookkeeper_holds_nothing(ledger: Ledger) -> None:
    assert len(pickle.dumps(Stage(ledger).keeper)) < 200


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "no traceback was kept; see ray.log"),
        ("", "empty traceback"),
        ("only this\n\n", "only this"),
        ('Traceback:\n  File "a.py", line 2, in f\nValueError: x: expected 1\n', "ValueError: x: expected 1"),
        (
            "ray.exceptions.RayTaskError(ValueError): ray::f()\n  more\nValueError: inner\n\nsee above\n",
            "ValueError: inner",
        ),
        ("RuntimeError: " + "x" * 400, "RuntimeError: " + "x" * 286),
    ],
)
def test_the_innermost_error_of_a_traceback_is_one_line(tmp_path: Path, text: str | None, line: str) -> None:
    file = tmp_path / "error.txt"
    if text is not None:
        file.write_text(text)
    assert last_line(str(file)) == line


def test_without_an_error_file_that_is_said() -> None:
    assert last_line(None) == "no traceback was kept; see ray.log"


def test_only_trials_that_train_are_asked_how_far_they_are(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.training.tuning.ASK_EVERY_S", 0.0)
    stage = Stage(ledger)
    half = Progress(epoch=1, step=5, steps=10, loss=0.5, windows_per_second=100.0, seconds=1.0)
    stage.told |= {"a": half, "b": half}
    stage.start("a")
    stage.keeper.on_step_begin(0, [])
    views = stage.keeper._monitor.views
    assert (views["a"].inside, views["b"].inside) == (0.5, 0.0)
    stage.judge.end("a", decision("prune"))
    stage.keeper.on_trial_complete(0, [], trial("a"))
    stage.told["a"] = replace(half, step=9)
    stage.keeper.on_step_begin(0, [])
    assert views["a"].inside == 0.5
