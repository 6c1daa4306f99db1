"""What the pipeline tells others of a run; its stages are tested where they are, and as a whole in test_end_to_end."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import services
from orchestrator.pipeline import IndexOpening, job_metadata
from orchestrator.preflight import PreflightError
from orchestrator.state import Measured, Prepared, Session

EXPERIMENT = "{name: shared, variants: {mamba_s: {}, amn: {}}, baselines: [last_vector]}"


def opening_of(prepared: Prepared, monkeypatch: pytest.MonkeyPatch, fidelity: float) -> IndexOpening:
    """Return the opening of a run whose index finds this share of the exact neighbours."""
    index = {"index": {"kind": "flat", "fidelity": fidelity, "fidelity_disturbed": fidelity}}
    measured = Measured(index=index, baselines={}, oracle={"r@5": 1.0, "contain@50": 1.0}, checks=prepared.checks)
    monkeypatch.setattr(services, "ask", lambda *_: None)
    monkeypatch.setattr(services, "measure", lambda *_: measured)
    no_cluster: Any = None
    return IndexOpening(prepared, no_cluster, Session(stream=io.StringIO()))


def test_a_run_folder_is_claimed_once_when_index_and_baselines_have_passed(
    prepared_from: Callable[[str], Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepared_from(EXPERIMENT)
    opening = opening_of(prepared, monkeypatch, fidelity=1.0)
    assert not prepared.ledger.is_claimed()
    opened = opening.open()
    assert prepared.ledger.is_claimed() and opening.open() is opened


def test_an_index_that_misses_neighbours_claims_no_run_folder(
    prepared_from: Callable[[str], Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepared_from(EXPERIMENT)
    opening = opening_of(prepared, monkeypatch, fidelity=0.2)
    with pytest.raises(PreflightError, match="index_fidelity"):
        opening.open()
    assert not prepared.ledger.path.exists()


def test_the_dashboard_is_told_what_runs_without_what_is_switched_off(prepared_from: Callable[[str], Prepared]) -> None:
    prepared = prepared_from(
        "{name: shared, seeds: [3, 4], variants: {mamba_s: {}, amn: {}, mamba_h: {enabled: false}}}"
    )
    told = job_metadata(prepared)
    assert told["job_name"] == "shared: mamba_s, amn; seed 3, 4"
    assert told["run_folder"] == str(prepared.ledger.path)
    assert all(isinstance(value, str) for value in told.values())  # Ray takes nothing else
