"""Which process imports what: FAISS and torch never meet, and the driver needs neither."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


A_STEP = (
    "from models.training.optim import build_optimizer, step_if_finite; from models.spec.optim import OptimConfig; "
    "layer = orchestrator.trials.train.torch.nn.Linear(2, 2); optimizer = build_optimizer(layer, OptimConfig()); "
    "loss = layer.weight.sum(); loss.backward(); step_if_finite(optimizer, loss); optimizer.zero_grad(); "
    "optimizer.load_state_dict(optimizer.state_dict())"
)
HEAVY = ("torch", "torch._dynamo", "faiss")
"""The second is torch's compiler, which takes as long to import as the rest of torch."""


def imported(modules: str) -> set[str]:
    code = f"import sys, {modules}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("process", "modules", "expected"),
    [
        (
            "driver and Tune trial",
            "orchestrator.launch, orchestrator.pipeline, orchestrator.services, orchestrator.final.outcome, "
            "orchestrator.trials.trial",
            set(),
        ),
        ("training worker", f"orchestrator.trials.train; {A_STEP}", {"torch"}),
        ("predictions of a checkpoint", "evaluation.service.predict", {"torch"}),
        ("evaluator", "evaluation.service.actor", {"faiss"}),
    ],
)
def test_a_process_imports_torch_or_faiss_or_neither_and_no_compiler(
    process: str, modules: str, expected: set[str]
) -> None:
    assert imported(modules) == expected, process
