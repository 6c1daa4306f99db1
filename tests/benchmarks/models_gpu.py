"""How long the four Mamba variants would train at the seed's sizes on one GPU: 20 epochs of 396,258 windows, D = 768.

    python -m tests.benchmarks.models_gpu            # on a GPU: timed steps of every variant, extrapolated to 20 epochs
    python -m tests.benchmarks.models_gpu --check    # anywhere: three tiny steps of every variant, to see that it runs

The steps are a trial's (`orchestrator.trials.learner`) with `training: {compile: true}`, so in bfloat16: row
numbers go to the device, the gather is there, forward, loss and backward are replayed as CUDA graphs, then clipping and
the fused AdamW. --eager leaves the graphs out. Vectors are synthetic, of the right shape.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch

from data.payload.keys import Int32
from data.windows.table import build_windows
from models.spec.costs import flops_per_window
from models.spec.registry import make_spec
from models.training.negatives import ArticleNegatives
from orchestrator.config.experiment import TrainingConfig, resolve_variant
from orchestrator.trials.learner import GatherTable, Learner
from tests.benchmarks.data_synthetic import make_keys, vector_blocks

WINDOWS, EPOCHS, LENGTH = 396_258, 20, 5
BATCH = {"mamba_s": 1024, "mamba_h": 1024, "mamba_xl": 768, "mamba_sandwich": 896}
GOAL_S = 300.0


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    dim: int
    corpus_rows: int
    warmup_steps: int
    timed_steps: int
    batch: int | None  # None: the variant's own


FULL = Scale(dim=768, corpus_rows=584_545, warmup_steps=20, timed_steps=200, batch=None)
CHECK = Scale(dim=48, corpus_rows=500, warmup_steps=1, timed_steps=2, batch=8)


def synthetic_table(scale: Scale, device: torch.device) -> tuple[GatherTable, Int32]:
    """Return the table of a payload with topic drift, float16, and its windows (W, L + 1)."""
    article_index, chunk_index = make_keys(scale.corpus_rows)
    vectors = np.concatenate([block.astype(np.float16) for block in vector_blocks(chunk_index, scale.dim)])
    ids = np.arange(scale.corpus_rows, dtype=np.int32)
    return GatherTable(vectors, ids, device), build_windows(article_index, chunk_index, LENGTH, LENGTH + 1).rows


def make_learner(name: str, table: GatherTable, batch: int, total_steps: int, *, compiled: bool) -> Learner:
    """Return what a trial of this variant trains with, at the seed's sizes."""
    training = TrainingConfig(batch_size=batch, compile=compiled)
    variant = resolve_variant(name, {}, training)
    assert variant is not None
    no_negatives = ArticleNegatives(np.zeros(1, np.int32), 0)
    return Learner(
        variant, table, no_negatives, context_length=LENGTH, total_steps=total_steps, seed=0, rank=0, num_workers=1
    )


def measure(name: str, table: GatherTable, windows: Int32, scale: Scale, *, compiled: bool) -> dict[str, object]:
    """Time steps of one variant and extrapolate to the whole training."""
    batch = scale.batch or BATCH[name]
    total_steps = EPOCHS * (WINDOWS // batch)
    learner = make_learner(name, table, batch, total_steps, compiled=compiled)
    learner.start_epoch(1)
    rng = np.random.default_rng(0)

    def seconds_of(num_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(num_steps):
            learner.step(windows[rng.integers(0, len(windows), batch)])  # returns numbers: the device is done
        return time.perf_counter() - start

    warmup_s = seconds_of(scale.warmup_steps)
    step_s = seconds_of(scale.timed_steps) / scale.timed_steps
    operations = 3 * batch * flops_per_window(make_spec(name), scale.dim, LENGTH)
    return {
        "name": f"gpu_{name}",
        "step_ms": round(1e3 * step_s, 3),
        "tflops": round(operations / step_s / 1e12, 2),
        "warmup_s": round(warmup_s, 1),
        "training_s": round(step_s * total_steps + warmup_s, 1),
    }


def main() -> int:
    """Measure every variant and print one line each and their sum against the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="three tiny steps a variant, on any device")
    parser.add_argument("--eager", action="store_true", help="without torch.compile and CUDA graphs")
    arguments = parser.parse_args()
    if not (arguments.check or torch.cuda.is_available()):
        sys.stderr.write(
            "models_gpu: expected a CUDA device, got none; run it on a machine with a GPU or with --check\n"
        )
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compiled = device.type == "cuda" and not arguments.eager
    scale = CHECK if arguments.check else FULL
    table, windows = synthetic_table(scale, device)
    rows = [measure(name, table, windows, scale, compiled=compiled) for name in BATCH]
    if arguments.check:
        sys.stdout.write(
            f"{len(rows)} variants trained {CHECK.warmup_steps + CHECK.timed_steps} tiny steps on {device}\n"
        )
        return 0
    sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
    total_s = sum(float(str(row["training_s"])) for row in rows)
    sys.stdout.write(json.dumps({"name": "gpu_all_variants", "training_s": round(total_s, 1), "goal_s": GOAL_S}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
