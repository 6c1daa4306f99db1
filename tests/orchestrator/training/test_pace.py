"""A budget of seconds: epochs from the measured pace, once a run."""

import io
from typing import Any

import pytest

from orchestrator.run.relaunch import as_launched_before
from orchestrator.state import Prepared, Session, Started
from orchestrator.training import pace
from orchestrator.training.pace import with_measured_budget
from tests.orchestrator.conftest import admission

EXPERIMENT = """
name: searched
variants: {mamba_s: {}, amn: {}}
smoke: {epochs: []}
search: {samples: 2, budget: {seconds: 60}, space: {training.optimizer.lr: [1.0e-4, 2.0e-4]}}
seeds: [1, 2]
"""
PACE = {"mamba_s.1": 1.4, "mamba_s.2": 1.6, "amn.1": 0.5, "amn.2": 0.5}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every measurement: the samples with their setups, and the seconds for one."""
    found: list[Any] = []

    def measure(timed: Any, started: Any, experiment: str, least_s: float) -> dict[str, float]:
        found.append((timed, least_s))
        return PACE

    monkeypatch.setattr(pace, "_measure", measure)
    return found


def paced(prepared: Prepared) -> tuple[Prepared, str]:
    started = Started(admission=admission(), evaluator=None, windows=None, line=None, orders={})
    stream = io.StringIO()
    return with_measured_budget(prepared, started, Session(stream=stream)), stream.getvalue()


def test_each_setting_is_timed_under_one_seed_and_paid_for_under_all(prepared_from: Any, asked: list[Any]) -> None:
    found, said = paced(prepared_from(EXPERIMENT))
    # An epoch of both settings under both seeds takes 6 s and 2 s; a tenth more than 60 s is planned.
    assert {name: one.training.epochs for name, one in found.config.resolved_variants.items()} == {
        "mamba_s": 11,
        "amn": 33,
    }
    ((timed, least_s),) = asked
    assert ([*timed], least_s) == ([*PACE], pace.LEAST_S)
    assert said == (
        "budget    60 s for the search of each variant: mamba_s at most 11 epochs of 1.5 s, "
        "amn at most 33 epochs of 0.5 s\n"
    )
    assert [(check.name, check.value) for check in found.checks] == [("mamba_s.epochs", 11), ("amn.epochs", 33)]


def test_a_relaunch_does_not_measure_again(prepared_from: Any, asked: list[Any]) -> None:
    first, _ = paced(prepared_from(EXPERIMENT))
    first.ledger.open(first.config.resolved(), {"config_sha256": first.config.fingerprint()})
    again = prepared_from(EXPERIMENT)
    config = as_launched_before(again.config, first.ledger)
    assert config.fingerprint() == first.config.fingerprint()
    assert paced(again) == (again, "")
    assert len(asked) == 1


def test_without_such_a_budget_nothing_is_measured(prepared_from: Any, asked: list[Any]) -> None:
    prepared = prepared_from(EXPERIMENT.replace("seconds: 60", "flops: 1.0e+12"))
    assert paced(prepared) == (prepared, "")
    assert asked == []
