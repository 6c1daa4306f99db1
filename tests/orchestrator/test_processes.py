"""Which process imports what: FAISS and torch never meet, and the driver needs neither."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def imported(modules: str) -> set[str]:
    code = f"import sys, {modules}; print(*(name for name in ('torch', 'faiss') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("process", "modules", "expected"),
    [
        (
            "driver",
            "orchestrator.launch, orchestrator.command, orchestrator.pipeline, orchestrator.final.outcome",
            set(),
        ),
        ("Tune trial", "orchestrator.trials.trial", set()),
        ("training worker", "orchestrator.trials.train", {"torch"}),
        ("predictions of a checkpoint", "evaluation.service.predict", {"torch"}),
        ("evaluator", "evaluation.service.actor", {"faiss"}),
    ],
)
def test_a_process_imports_torch_or_faiss_or_neither(process: str, modules: str, expected: set[str]) -> None:
    assert imported(modules) == expected, process
