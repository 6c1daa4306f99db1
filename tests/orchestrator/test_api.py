"""A run from Python: the function is there without heavy imports, takes Python's values, and returns the results."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.io import write_json
from orchestrator import launch, pipeline
from orchestrator.api import read_experiment
from orchestrator.run.faults import RunError

REPOSITORY = Path(__file__).parents[2]
ROW = {"variant": "learner", "kind": "variant", "status": "PRUNED", "reason": "r@5 too low", "epochs": 2}
RESULTS = {"protocol": {"finished_at": "noon"}, "rows": [ROW], "best": None, "verdict": "No variant survived."}


def test_the_function_is_imported_without_ray_torch_or_faiss() -> None:
    heavy = "[name for name in ('ray', 'torch', 'faiss', 'pydantic') if name in sys.modules]"
    code = (
        f"import sys, orchestrator; print({heavy}); from orchestrator import launch; print(callable(launch), {heavy})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True ['pydantic']"]


def test_an_attribute_that_is_not_there_is_an_error() -> None:
    import orchestrator

    with pytest.raises(AttributeError, match="has no attribute 'lunch'"):
        orchestrator.lunch  # noqa: B018


@pytest.mark.parametrize(
    "values",
    [{"training.epochs": 0}, {"training": {"epochs": 0}}, ["training.epochs=0"]],
    ids=["key", "nested", "text"],
)
def test_a_wrong_value_is_refused_like_one_that_was_typed(experiment: Path, values: Any) -> None:
    with pytest.raises(UserError, match=r"x\.yaml: training\.epochs: expected at least 1, got 0; fix the value"):
        launch(experiment, set=values)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_complete_run_is_returned_and_printed_unless_quiet(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    config, ledger = read_experiment(experiment, run_dir=tmp_path / "run")
    ledger.open(config.resolved(), {"config_sha256": config.fingerprint()})
    write_json(ledger.results, RESULTS)
    assert launch(str(experiment), run_dir=tmp_path / "run", quiet=quiet) == RESULTS
    shown = capsys.readouterr().out
    assert shown == "" if quiet else "complete since noon" in shown


def test_a_fault_is_raised_with_its_cause_and_where_its_traceback_is(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def execute(*_: Any, **__: Any) -> None:
        raise KeyError("rows")

    monkeypatch.setattr(pipeline, "execute", execute)
    with pytest.raises(RunError, match=r"KeyError: 'rows'; the traceback is in .*ray\.log") as raised:
        launch(experiment, run_dir=tmp_path / "run", quiet=True)
    assert isinstance(raised.value.__cause__, KeyError)
    assert "KeyError" in (tmp_path / "run" / "ray.log").read_text()
