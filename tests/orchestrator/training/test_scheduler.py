"""The judge driven with plain reports: no cluster, a real run folder, a listener and an evaluator that record."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayError

from data.io import append_json_line, read_json
from evaluation.measures.rules import parse_rule
from orchestrator.gates import EarlyStopping, Gate, StopRules, TrialDecision
from orchestrator.run.ledger import Ledger
from orchestrator.run.records import read_predictions
from orchestrator.training import scheduler as scheduling
from orchestrator.training.scheduler import GateScheduler
from orchestrator.trials.setup import TrialSetup, to_report

RULES = StopRules(
    epochs=4,
    gates=(Gate(epoch=2, prune_unless=(parse_rule("r@5 >= 0.3"),), continue_if=(parse_rule("r@1 >= 0.1"),)),),
    early_stopping=EarlyStopping(metric="val_mrr", mode="max", patience=2),
    baselines={},
)


class Listener:
    """Records what it is told, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, str]] = []

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        self.heard.append((name, record["epoch"], "epoch"))

    def decided(self, name: str, decision: TrialDecision) -> None:
        self.heard.append((name, decision.epoch, decision.action))


class Questions:
    """An evaluator that measures 1 ms the second time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def time_again(self, name: str) -> dict[str, float]:
        self.asked.append(("time", name))
        return {"p95_ms": 1.0}

    def triage(self, name: str) -> list[dict[str, Any]]:
        self.asked.append(("triage", name))
        return [{"question": "why?"}]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger(tmp_path / "run")
    opened.open({"name": "x"}, {"config_sha256": "c", "data_sha256": "d"})
    return opened


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def questions() -> Questions:
    return Questions()


def judge(ledger: Ledger, rules: Mapping[str, StopRules], listener: Listener, questions: Questions) -> GateScheduler:
    """Return a judge that is open."""
    scheduler = GateScheduler(ledger, rules, questions)
    scheduler.open(rules, listener)
    return scheduler


@pytest.fixture
def scheduler(ledger: Ledger, listener: Listener, questions: Questions) -> GateScheduler:
    return judge(ledger, {"a": RULES, "b": RULES}, listener, questions)


def record(epoch: int, *, r5: float | None = None, mrr: float | None = None, **more: Any) -> dict[str, Any]:
    """One line of metrics.jsonl; mrr rises by default."""
    smoke = {"smoke": {"r@5": r5, "r@1": 0.2}} if r5 is not None else {}
    return {"epoch": epoch, "val_mrr": epoch / 10 if mrr is None else mrr, **smoke, **more}


def report(epoch: int, **record_of: Any) -> dict[str, Any]:
    """What reaches the scheduler: numbers and the record as text, among keys of Tune's own."""
    return {
        **to_report(record(epoch, **record_of), {}, f"report {epoch}"),
        "training_iteration": 99,
        "done": False,
        "trial_id": "x",
    }


def written(ledger: Ledger, name: str, *records: dict[str, Any]) -> None:
    ledger.variant(name).path.mkdir(parents=True, exist_ok=True)
    for line in records:
        append_json_line(ledger.variant(name).metrics, line)


def actions(ledger: Ledger, name: str = "a") -> list[tuple[int, str]]:
    return [(line["epoch"], line["action"]) for line in ledger.decisions_of(name)]


# ---- one report after the other


def test_a_trial_that_passes_its_gate_runs_to_its_end(scheduler: GateScheduler, ledger: Ledger) -> None:
    verdicts = [scheduler.take("a", report(epoch, r5=0.5 if epoch == 2 else None), {}) for epoch in (1, 2, 3, 4)]
    assert verdicts == ["continue"] * 3 + ["survived"]
    assert actions(ledger) == [(2, "continue"), (2, "continue"), (4, "finish")]
    end = ledger.end_of("a")
    assert end is not None
    assert (end.ending.name, end.epoch) == ("FINISHED", 4)


def test_a_trial_that_misses_its_gate_is_pruned_once(scheduler: GateScheduler, ledger: Ledger) -> None:
    scheduler.take("a", report(1), {})
    assert scheduler.take("a", report(2, r5=0.1), {}) == "ended"
    assert actions(ledger) == [(2, "continue"), (2, "prune")]
    end = ledger.end_of("a")
    assert end is not None
    assert (end.ending.name, end.epoch, end.reason) == ("PRUNED", 2, "r@5 0.1 (limit >= 0.3, failed)")


def test_a_gate_epoch_without_its_metric_prunes(scheduler: GateScheduler, ledger: Ledger) -> None:
    scheduler.take("a", report(1), {})
    scheduler.take("a", report(2), {})
    assert [action for _, action in actions(ledger)] == ["prune", "prune"]


def test_a_replayed_report_is_not_judged_twice(scheduler: GateScheduler, ledger: Ledger) -> None:
    for epoch, r5 in ((1, None), (2, 0.5), (2, 0.1), (1, None), (2, 0.5)):
        assert scheduler.take("a", report(epoch, r5=r5), {}) == "continue"
    assert actions(ledger) == [(2, "continue"), (2, "continue")]
    assert scheduler.num_judged == 2


def test_the_last_report_of_an_ended_trial_repeated_is_answered_alike(scheduler: GateScheduler, ledger: Ledger) -> None:
    scheduler.take("a", report(1), {})
    scheduler.take("a", report(2, r5=0.1), {})
    assert scheduler.take("a", report(2, r5=0.1), {}) == "ended"
    assert len(actions(ledger)) == 2


def test_a_report_beyond_the_end_is_answered_and_not_recorded(
    scheduler: GateScheduler, ledger: Ledger, listener: Listener
) -> None:
    scheduler.take("a", report(1), {})
    scheduler.take("a", report(2, r5=0.1), {})
    heard = len(listener.heard)
    assert scheduler.take("a", report(3), {}) == "ended"
    assert scheduler.take("a", report(4), {}) == "ended"
    assert len(actions(ledger)) == 2
    assert len(listener.heard) == heard


def test_a_report_that_tune_makes_up_is_passed_over(scheduler: GateScheduler, listener: Listener) -> None:
    assert scheduler.take("a", {"training_iteration": 1, "done": True}, {}) is None
    assert listener.heard == []


def test_a_trial_that_stops_early_or_diverges_says_so(scheduler: GateScheduler, ledger: Ledger) -> None:
    for epoch, mrr in ((1, 0.5), (2, 0.4), (3, 0.3)):
        scheduler.take("a", report(epoch, r5=0.5, mrr=mrr), {})
    assert actions(ledger)[-1] == (3, "early_stop")
    scheduler.take("b", report(1, diverged="loss nan at step 3 of epoch 1"), {})
    assert actions(ledger, "b") == [(1, "diverge")]
    assert scheduler.take("b", report(2), {}) == "ended"


def test_trials_are_judged_apart(scheduler: GateScheduler, ledger: Ledger) -> None:
    scheduler.take("a", report(1), {})
    scheduler.take("b", report(1), {})
    scheduler.take("a", report(2, r5=0.1), {})
    assert scheduler.take("b", report(2, r5=0.5), {}) == "continue"
    assert scheduler.take("b", report(3), {}) == "continue"
    assert ledger.end_of("b") is None


def test_an_epoch_is_told_before_its_decisions(scheduler: GateScheduler, listener: Listener) -> None:
    scheduler.take("a", report(1), {})
    scheduler.take("a", report(2, r5=0.1), {})
    assert listener.heard == [("a", 1, "epoch"), ("a", 2, "epoch"), ("a", 2, "continue"), ("a", 2, "prune")]


def test_tune_is_told_to_go_on_whatever_the_trial_is_answered(
    scheduler: GateScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[str, str]] = []
    monkeypatch.setattr("orchestrator.training.scheduler.answer", lambda *answered: answers.append(answered))
    trial = SimpleNamespace(config={"trial": "a"})
    told = [scheduler.on_trial_result(None, trial, one) for one in (report(1), report(2, r5=0.1), {"done": True})]
    assert told == ["CONTINUE"] * 3
    assert answers == [("report 1", "continue"), ("report 2", "ended")]
    assert scheduler.debug_string() == "GateScheduler: 2 epochs judged, 1 trials ended"


def test_files_that_went_with_their_process_are_passed_over_and_an_evaluator_that_is_gone_is_not(
    scheduler: GateScheduler, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> Any:
        raise RayError("gone")

    monkeypatch.setattr("orchestrator.training.scheduler.answer", lambda *_: None)
    trial = SimpleNamespace(config={"trial": "a"})
    monkeypatch.setattr("orchestrator.training.scheduler.ray.get", gone)
    assert scheduler.on_trial_result(None, trial, {**report(1), "files": [("last.pt", "reference")]}) == "CONTINUE"
    assert scheduler.num_judged == 0
    # The trial would wait for its answer for ever.
    monkeypatch.setattr(questions, "triage", gone)
    with pytest.raises(RayError, match="gone"):
        scheduler.on_trial_result(None, trial, report(2, r5=0.1))


def test_files_are_written_with_the_epoch_that_brings_them(scheduler: GateScheduler, ledger: Ledger) -> None:
    files = {"best.pt": np.frombuffer(b"best", np.uint8), "last.pt": np.frombuffer(b"last", np.uint8)}
    scheduler.take("a", report(1), files)
    folder = ledger.variant("a")
    assert (folder.best.read_bytes(), folder.last.read_bytes()) == (b"best", b"last")
    assert [line["epoch"] for line in folder.records()] == [1]


def test_a_survivors_predictions_are_kept_and_the_trial_is_over(scheduler: GateScheduler, ledger: Ledger) -> None:
    for epoch in (1, 2, 3, 4):
        verdict = scheduler.take("a", report(epoch, r5=0.5), {})
    assert verdict == "survived"
    told = to_report({"predicted": {"best_epoch": 3, "predict_ms": [1.0]}}, {}, "last")
    assert scheduler.take("a", told, {"predictions.npy": np.eye(2, dtype=np.float32)}) == "ended"
    predictions, about = read_predictions(ledger.variant("a"))
    np.testing.assert_array_equal(predictions, np.eye(2))
    assert about == {"best_epoch": 3, "predict_ms": [1.0]}


def test_a_latency_that_fails_is_measured_once_more_before_it_may_prune(
    ledger: Ledger, listener: Listener, questions: Questions
) -> None:
    gate = Gate(epoch=1, prune_unless=(parse_rule("p95_ms <= 2"),))
    scheduler = judge(ledger, {"a": replace(RULES, gates=(gate,))}, listener, questions)
    assert scheduler.take("a", report(1, smoke={"p95_ms": 5.0}), {}) == "continue"
    assert questions.asked == [("time", "a")]
    assert ledger.variant("a").records()[0]["smoke"] == {"p95_ms": 1.0, "p95_ms_first": 5.0}


def test_a_pruned_trial_is_asked_why_and_a_passing_one_is_not(
    scheduler: GateScheduler, ledger: Ledger, questions: Questions
) -> None:
    for name, r5 in (("a", 0.1), ("b", 0.5)):
        scheduler.take(name, report(1), {})
        scheduler.take(name, report(2, r5=r5), {})
    assert questions.asked == [("triage", "a")]
    kept = {name: read_json(ledger.variant(name).smoke(2)) for name in ("a", "b")}
    assert kept["a"] == {"epoch": 2, "metrics": {"r@5": 0.1, "r@1": 0.2}, "ci": {}, "triage": [{"question": "why?"}]}
    assert "triage" not in kept["b"]


def test_the_judge_alone_knows_the_rules(ledger: Ledger, listener: Listener, questions: Questions) -> None:
    # The same reports under another rule, which no trial has seen, end otherwise.
    lenient = judge(ledger, {"a": replace(RULES, gates=())}, listener, questions)
    assert [lenient.take("a", report(epoch, r5=0.1), {}) for epoch in (1, 2)] == ["continue", "continue"]
    assert "rules" not in {field.name for field in fields(TrialSetup)}


def test_a_trial_is_answered_once_the_judge_is_open(
    ledger: Ledger, listener: Listener, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[tuple[str, str]] = []
    monkeypatch.setattr(scheduling, "answer", lambda number, verdict: answered.append((number, verdict)))
    written(ledger, "b", record(1), record(2, r5=0.1))
    scheduler = GateScheduler(ledger, ["a", "b"], questions)
    for name in ("a", "b"):
        trial: Any = SimpleNamespace(config={"trial": name})
        scheduler.on_trial_result(Any, trial, to_report({}, {}, f"question of {name}"))
        scheduler.on_trial_result(Any, trial, {"done": True})  # as Tune makes it up
    assert answered == []
    scheduler.open({"a": RULES, "b": RULES}, listener)
    assert answered == [("question of a", "continue"), ("question of b", "ended")]


def test_the_end_of_a_trial_that_could_not_start_is_recorded_at_the_opening(
    ledger: Ledger, listener: Listener, questions: Questions
) -> None:
    scheduler = GateScheduler(ledger, ["a"], questions)
    scheduler.end("a", cut("fail"))
    assert ledger.end_of("a") is None
    assert scheduler.is_over("a")  # so nobody ends it a second time
    scheduler.open({"a": RULES}, listener)
    assert actions(ledger) == [(2, "fail")]
    assert listener.heard == [("a", 2, "fail")]
    assert scheduler.is_over("a")


def test_a_decision_names_time_variant_rule_value_limit_and_reason(scheduler: GateScheduler, ledger: Ledger) -> None:
    scheduler.take("a", report(1), {})
    scheduler.take("a", report(2, r5=0.1), {})
    line = json.loads(ledger.decisions.read_text().splitlines()[-1])
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "variant": "a",
        "epoch": 2,
        "rule": "r@5 >= 0.3",
        "value": 0.1,
        "limit": 0.3,
        "passed": False,
        "action": "prune",
        "reason": "r@5 0.1 (limit >= 0.3, failed)",
    }


def test_tunes_pickle_of_the_scheduler_holds_nothing(scheduler: GateScheduler) -> None:
    assert scheduler.__getstate__() == {}
    assert len(pickle.dumps(scheduler)) < 200


# ---- after a crash


def cut(action: Any) -> TrialDecision:
    """What is recorded of a trial that did not reach its end."""
    rule = "the trial runs to its end"
    return TrialDecision(epoch=2, rule=rule, value=None, limit=None, passed=False, action=action, reason="cut")


def relaunched(ledger: Ledger, listener: Listener) -> GateScheduler:
    return judge(ledger, {"a": RULES}, listener, Questions())


def test_a_relaunch_decides_what_a_crash_left_undecided(ledger: Ledger, listener: Listener) -> None:
    written(ledger, "a", record(1), record(2, r5=0.1))
    scheduler = relaunched(ledger, listener)
    assert actions(ledger) == [(2, "continue"), (2, "prune")]
    assert listener.heard == [("a", 2, "continue"), ("a", 2, "prune")]
    assert scheduler.take("a", report(3), {}) == "ended"


def test_a_relaunch_decides_nothing_twice(ledger: Ledger, listener: Listener) -> None:
    written(ledger, "a", record(1), record(2, r5=0.1))
    for _ in range(3):
        relaunched(ledger, listener)
    assert actions(ledger) == [(2, "continue"), (2, "prune")]


def test_a_crash_between_two_rules_of_a_gate_loses_neither(ledger: Ledger, listener: Listener) -> None:
    written(ledger, "a", record(1), record(2, r5=0.1))
    relaunched(ledger, listener)
    lines = ledger.decisions.read_text().splitlines(keepends=True)
    ledger.decisions.write_text(lines[0])
    relaunched(ledger, Listener())
    assert actions(ledger) == [(2, "continue"), (2, "prune")]


@pytest.mark.parametrize("ended_by", ["fail", "interrupt"])
def test_a_gate_that_was_due_when_a_trial_failed_or_was_interrupted_is_judged(
    ledger: Ledger, listener: Listener, ended_by: Any
) -> None:
    written(ledger, "a", record(1), record(2, r5=0.1))
    ledger.record("a", cut(ended_by))
    relaunched(ledger, listener)
    end = ledger.end_of("a")
    assert end is not None
    assert end.ending.name == "PRUNED"


@pytest.mark.parametrize("cut_by", ["fail", "interrupt"])
def test_a_trial_that_was_cut_short_goes_on_after_its_last_epoch(
    ledger: Ledger, listener: Listener, cut_by: Any
) -> None:
    written(ledger, "a", record(1), record(2, r5=0.5))
    relaunched(ledger, Listener())
    ledger.record("a", cut(cut_by))
    scheduler = relaunched(ledger, listener)
    assert scheduler.take("a", report(2, r5=0.1), {}) == "continue"
    assert scheduler.take("a", report(3), {}) == "continue"
    assert scheduler.take("a", report(4), {}) == "survived"
    assert actions(ledger) == [(2, "continue"), (2, "continue"), (2, cut_by), (4, "finish")]


def test_early_stopping_counts_the_epochs_before_a_relaunch(ledger: Ledger, listener: Listener) -> None:
    written(ledger, "a", record(1, mrr=0.5), record(2, r5=0.5, mrr=0.4))
    scheduler = relaunched(ledger, listener)
    scheduler.take("a", report(3, mrr=0.3), {})
    assert actions(ledger)[-1] == (3, "early_stop")
