"""What is printed at the end: the verdict once, why none survived, where the time went, how often gates spoke."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.gates import TrialDecision
from orchestrator.run.ledger import Ledger
from orchestrator.screen.summary import decision_line, decision_text, order_line, time_line, triage_lines


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger(tmp_path / "run")
    opened.open({}, {})
    return opened


def results(best: str | None, verdict: str, **row: Any) -> dict[str, Any]:
    only = {"variant": "a", "kind": "variant", "status": "PRUNED", "reason": "r@5 too low", "epochs": 2, **row}
    return {"protocol": {}, "rows": [only], "best": best, "verdict": verdict}


def decision(action: Any, limit: float | None = 0.3) -> TrialDecision:
    return TrialDecision(epoch=2, rule="r", value=0.1, limit=limit, passed=False, action=action, reason="why")


def test_the_verdict_comes_first_and_warnings_stand_above_the_table() -> None:
    found = results("a", "a is the best variant; it cannot be told from ridge.", status="FINISHED")
    found["protocol"]["warnings"] = ["1 of 2 rows FAILED: b (OSError: disk full)."]
    text = decision_text(found)
    assert text.splitlines()[0] == "a is the best variant; it cannot be told from ridge."
    assert text.index("Warning: 1 of 2 rows FAILED: b (OSError: disk full).") < text.index("variant  ")


def test_that_no_variant_survived_is_said_once_with_what_ended_each() -> None:
    text = decision_text(results(None, "No variant survived."))
    assert text.count("No variant survived") == 1
    assert "r@5 too low" in text


def test_triage_of_pruned_trials_names_what_is_wrong() -> None:
    asked = [
        {"question": "are predictions of norm 1?", "value": 0.0, "finding": "yes"},
        {"question": "do they differ?", "value": 0.98765, "finding": "no: the model says the same of every context"},
    ]
    found = results("b", "", triage=asked)
    found["rows"] += [{"variant": "b", "triage": asked[:1]}, {"variant": "c"}]
    assert triage_lines(found) == [
        "What is wrong with the predictions of pruned trials:",
        "  a: do they differ? 0.988, no: the model says the same of every context",
        "  b: nothing that the triage asks about",
    ]
    assert triage_lines(results("a", "")) == []


@pytest.mark.parametrize(
    ("differing", "line"),
    [
        ([], "orders    equal in all 3 trials, 8 epochs"),
        (["a", "b"], "orders    warning: a, b saw other windows or another order than it should; do not compare it"),
    ],
)
def test_it_is_said_whether_all_trials_saw_the_same_data(differing: list[str], line: str) -> None:
    orders = {"trials": 3, "epochs": 8, "differing": differing}
    assert order_line({"orders": orders}) == line


def test_time_is_told_by_phase_with_the_share_in_training_steps() -> None:
    timeline = {
        "wall_s": 100.0,
        "phases": [{"name": "data", "seconds": 9.6}, {"name": "training", "seconds": 90.4}],
        "slots": 2,
        "step_share_of_slots": 0.618,
        "launch_to_first_step_s": 21.34,
        "gaps_s": [1.26, 2.0],
    }
    assert time_line(timeline).splitlines() == [
        "time      100 s: data 10 s, training 90 s",
        "          62 % of 2 slots in training steps; launch to first step 21.3 s; "
        "a trial's end to the next one's first step 1.3, 2.0 s",
    ]
    nothing = {**timeline, "launch_to_first_step_s": None, "gaps_s": [], "step_share_of_slots": 0.0}
    assert time_line(nothing).endswith("0 % of 2 slots in training steps")


def test_gates_that_never_spoke_are_seen(ledger: Ledger) -> None:
    assert decision_line(ledger) == "gates     0 rules checked, 0 trials pruned"
    for name, action in (("a", "continue"), ("a", "prune"), ("a", "prune"), ("b", "warn"), ("b", "early_stop")):
        ledger.record(name, decision(action))
    ledger.record("b", decision("finish", limit=None))
    assert decision_line(ledger) == "gates     4 rules checked, 1 trials pruned"
