"""Stages: the later one starts only after the first one has shown that it can retrieve."""

import io
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evaluation.statistics.outcomes import Outcomes
from orchestrator import services
from orchestrator.config.load import load_config
from orchestrator.final.evaluate import FinalResult
from orchestrator.gates import Decision
from orchestrator.run.ledger import Ledger
from orchestrator.run.timeline import Timeline
from orchestrator.state import Run
from orchestrator.trials import training

EXPERIMENT = """
name: staged
variants: {mamba_s: {}, mamba_h: {}, amn: {}}
stages: [[mamba_s], [mamba_h, amn]]
gates: {success_if: ["r@5 >= 0.4", "p95_ms <= 1.0"]}
"""


def result(r_at_5: float) -> FinalResult:
    none = np.zeros(0, np.int32)
    outcomes = Outcomes(ranks=none, ranks_pool=none, cosine=np.zeros(0))
    return FinalResult(metrics={"r@5": r_at_5, "contain@50": r_at_5, "p95_ms": 9.0}, ci={}, outcomes=outcomes)


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[list[str]]]:
    """Return a run whose trials all finish at once, and the list of the groups that were started."""
    path = tmp_path / "staged.yaml"
    path.write_text(EXPERIMENT)
    ledger = Ledger(tmp_path / "run")
    ledger.path.mkdir()
    started: list[list[str]] = []

    def run_trials(names: Sequence[str], *_: Any, **__: Any) -> None:
        started.append(list(names))
        for name in names:
            decision = Decision(
                epoch=20, rule="epoch == 20", value=None, limit=None, passed=True, action="finish", reason=""
            )
            ledger.record(name, decision)

    monkeypatch.setattr(training, "run_trials", run_trials)
    monkeypatch.setattr(training, "_setup", lambda *_: None)
    monkeypatch.setattr(services, "start_predictor", lambda run: None)
    monkeypatch.setattr(services, "final_queries", lambda *_: SimpleNamespace(rows=None))
    monkeypatch.setattr(services.final, "evaluate_baselines", lambda *_: {"last_vector": result(0.1)})
    data = SimpleNamespace(payload=SimpleNamespace(dim=16, path=tmp_path), splits=None)
    run = Run(config=load_config(path), ledger=ledger, timeline=Timeline(), data=data, stream=io.StringIO(), checks=[])
    run.admission = SimpleNamespace(slots=2)
    return run, started


def test_the_second_stage_starts_when_a_survivor_of_the_first_passes(staged, monkeypatch):
    run, started = staged
    monkeypatch.setattr(services.final, "evaluate_survivor", lambda *_, **__: result(0.5))
    training.train(run, stream=None)
    assert [sorted(names) for names in started] == [["mamba_s"], ["amn", "mamba_h"]]


def test_the_second_stage_is_pruned_unstarted_when_the_first_misses_its_gates(staged, monkeypatch):
    run, started = staged
    monkeypatch.setattr(services.final, "evaluate_survivor", lambda *_, **__: result(0.3))
    training.train(run, stream=None)
    assert started == [["mamba_s"]]
    for name in ("mamba_h", "amn"):
        end = run.ledger.end_of(name)
        assert end is not None
        assert (end.status, end.epoch) == ("PRUNED", 0)
        assert "stage 1" in end.reason


def test_the_latency_gate_does_not_hold_a_stage_back(staged, monkeypatch):
    # P95 is 9 ms against a limit of 1 ms: only R@5 and Contain@50 speak for the next stage.
    run, started = staged
    monkeypatch.setattr(services.final, "evaluate_survivor", lambda *_, **__: result(0.4))
    training.train(run, stream=None)
    assert len(started) == 2


def test_a_survivor_is_evaluated_once_for_its_stage_and_the_table(staged, monkeypatch):
    run, _ = staged
    evaluated = []

    def evaluate(ledger: Ledger, name: str, *_: Any, **__: Any) -> FinalResult:
        evaluated.append(name)
        return result(0.5)

    monkeypatch.setattr(services.final, "evaluate_survivor", evaluate)
    training.train(run, stream=None)
    assert services.evaluate_survivor(run, "mamba_s").metrics["r@5"] == 0.5
    assert evaluated == ["mamba_s"]
