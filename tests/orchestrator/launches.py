"""Launches as a user types them, of one small experiment, and what they leave: shared by the tests that start Ray."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from data.io import read_json_lines

REPOSITORY = Path(__file__).parents[2]
ROTATION = """
name: rotation
seed: 3
data: {{source: payload, payload: {payload}}}
variants:
  learner: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16}}
  frozen: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16, training: {{optimizer: {{lr: 0.0}}}}}}
  amn: {{d_model: 32, residual: fitted}}
training:
  epochs: 4
  batch_size: 32
  precision: float32  # bfloat16 rounds so much that two workers are not like one
  optimizer: {{lr: 5.0e-3}}
smoke: {{epochs: [2], queries: 40}}
gates:
  smoke: [{{epoch: 2, prune_unless: ["novel.r@5 >= 1.5 * baseline.last_vector"]}}]
baselines: [last_vector, context_mean]
index: {{kind: flat}}
resources: {{max_concurrent: 2}}  # fewer slots than variants, on any machine
"""
NO_DROPOUT = "variants.learner.dropout=0.0"
TIMEOUT_S = 420
EPOCHS = 100
"""So many take longer than a test needs to reach into the run."""
LONG = [f"training.epochs={EPOCHS}", "training.early_stopping=null", "smoke.epochs=[]", "gates.smoke=[]"]


def command(experiment: Path, run: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.launch", str(experiment), "--run-dir", str(run), *options]


def launch(experiment: Path, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(experiment, run, "--set", NO_DROPOUT, *options),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def records(run: Path, variant: str) -> list[dict[str, Any]]:
    return read_json_lines(run / "variants" / variant / "metrics.jsonl")


def figures(records: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    """What must be equal to the last digit."""
    return [
        tuple(record.get(name) for name in ("loss", "val_loss", "val_cosine", "val_mrr", "val_soft_r@5"))
        for record in records
    ]


def sets(*texts: str) -> list[str]:
    """Overrides as the command line takes them."""
    return [part for text in texts for part in ("--set", text)]
