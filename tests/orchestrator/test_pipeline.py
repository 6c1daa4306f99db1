"""What the pipeline tells others of a run; its stages are tested where they are, and as a whole in test_end_to_end."""

from collections.abc import Callable

from orchestrator.pipeline import job_metadata
from orchestrator.state import Prepared


def test_the_dashboard_is_told_what_runs_without_what_is_switched_off(prepared_from: Callable[[str], Prepared]) -> None:
    prepared = prepared_from(
        "{name: shared, seeds: [3, 4], variants: {mamba_s: {}, amn: {}, mamba_h: {enabled: false}}}"
    )
    told = job_metadata(prepared)
    assert told["job_name"] == "shared: mamba_s, amn; seed 3, 4"
    assert told["run_folder"] == str(prepared.ledger.path)
    assert all(isinstance(value, str) for value in told.values())  # Ray takes nothing else
