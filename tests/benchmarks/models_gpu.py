"""How long the variants of experiments/phase5_wikipedia.yaml train on one GPU: 20 epochs of 396,258 windows, D = 768.

    python -m tests.benchmarks.models_gpu            # on a GPU: timed steps of every variant, extrapolated to 20 epochs
    python -m tests.benchmarks.models_gpu --check    # anywhere: three tiny steps of every variant, to see that it runs

The steps are a trial's (`orchestrator.trials.learner`) with the sizes and batches of that file: row numbers go to the
device, the gather is there, forward, loss and backward are replayed as CUDA graphs, then clipping and the fused AdamW.
--eager leaves the graphs out; --busy adds how long the device works in a step, by torch's profiler. Vectors are
synthetic, of the right shape, and so is the fitted line.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from data.payload.keys import Int32
from data.windows.table import build_windows
from models.spec.costs import flops_per_window
from models.training.negatives import ArticleNegatives
from orchestrator.config.experiment import Variant
from orchestrator.config.load import load_config
from orchestrator.trials.learner import GatherTable, Learner
from tests.benchmarks.data_synthetic import make_keys, vector_blocks

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "phase5_wikipedia.yaml"
WINDOWS, LENGTH = 396_258, 5
GOAL_S = 300.0


@dataclass(frozen=True)
class Scale:
    """How much is run; a step gathers as many rows out of 100,000 vectors as out of 584,545."""

    dim: int
    corpus_rows: int
    warmup_steps: int
    timed_steps: int
    batch: int | None  # None: the variant's own


FULL = Scale(dim=768, corpus_rows=100_000, warmup_steps=20, timed_steps=200, batch=None)
CHECK = Scale(dim=48, corpus_rows=500, warmup_steps=1, timed_steps=2, batch=8)


def synthetic_table(scale: Scale, device: torch.device) -> tuple[GatherTable, Int32]:
    """Return the table of a payload with topic drift, float16, and its windows (W, L + 1)."""
    articles, chunks = make_keys(scale.corpus_rows)
    vectors = np.concatenate([block.astype(np.float16) for block in vector_blocks(chunks, scale.dim)])
    ids = np.arange(scale.corpus_rows, dtype=np.int32)
    return GatherTable(vectors, ids, articles, device), build_windows(articles, chunks, LENGTH, LENGTH + 1).rows


def make_learner(variant: Variant, table: GatherTable, total_steps: int) -> Learner:
    """Return what a trial of this variant trains with."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0.0, 0.01, (LENGTH, table.dim, table.dim)).astype(np.float32)
    return Learner(
        variant,
        table,
        ArticleNegatives(table.article_index, variant.training.loss.article_negatives),
        context_length=LENGTH,
        total_steps=total_steps,
        seed=0,
        rank=0,
        num_workers=1,
        line=(weights, np.zeros((LENGTH, table.dim), np.float32)),
    )


def measure(
    variant: Variant, table: GatherTable, windows: Int32, scale: Scale, *, with_busy: bool = False
) -> dict[str, object]:
    """Time steps of one variant and extrapolate to the whole training."""
    batch = variant.training.batch_size
    total_steps = variant.training.epochs * (WINDOWS // batch)
    learner = make_learner(variant, table, total_steps)
    learner.start_epoch(1)
    rng = np.random.default_rng(0)

    def seconds_of(num_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(num_steps):
            learner.step(windows[rng.integers(0, len(windows), batch)])  # returns numbers: the device is done
        return time.perf_counter() - start

    warmup_s = seconds_of(scale.warmup_steps)
    step_s = seconds_of(scale.timed_steps) / scale.timed_steps
    operations = 3 * batch * flops_per_window(variant.spec, scale.dim, LENGTH)
    found: dict[str, object] = {
        "name": f"gpu_{variant.name}",
        "step_ms": round(1e3 * step_s, 3),
        "tflops": round(operations / step_s / 1e12, 2),
        "warmup_s": round(warmup_s, 1),
        "training_s": round(step_s * total_steps + warmup_s, 1),
        "gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }
    if with_busy:
        found["busy_ms"] = round(busy_ms(learner, windows[rng.integers(0, len(windows), (20, batch))]), 3)
    return found


def busy_ms(learner: Learner, batches: Int32) -> float:
    """Return the milliseconds that kernels run in one step, the mean over batches (S, B, L + 1)."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for rows in batches:
            learner.step(rows)
    return sum(event.self_device_time_total for event in profiled.key_averages()) / 1e3 / len(batches)


def main() -> int:
    """Measure every variant and print one line each and their sum against the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="three tiny steps a variant, on any device")
    parser.add_argument("--eager", action="store_true", help="without torch.compile and CUDA graphs")
    parser.add_argument("--busy", action="store_true", help="also how long the device works in a step")
    arguments = parser.parse_args()
    if not (arguments.check or torch.cuda.is_available()):
        sys.stderr.write(
            "models_gpu: expected a CUDA device, got none; run it on a machine with a GPU or with --check\n"
        )
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scale = CHECK if arguments.check else FULL
    overrides = [f"training.compile={str(device.type == 'cuda' and not arguments.eager).lower()}"]
    variants = [v for v in load_config(EXPERIMENT, tuple(overrides)).resolved_variants.values() if v.kind == "variant"]
    if scale.batch is not None:
        variants = [
            replace(one, training=one.training.model_copy(update={"batch_size": scale.batch})) for one in variants
        ]
    table, windows = synthetic_table(scale, device)
    total_s = 0.0
    for variant in variants:
        row = measure(variant, table, windows, scale, with_busy=arguments.busy)
        total_s += float(str(row["training_s"]))
        if not arguments.check:
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    if arguments.check:
        steps = CHECK.warmup_steps + CHECK.timed_steps
        sys.stdout.write(f"{len(variants)} variants trained {steps} tiny steps on {device}\n")
        return 0
    sys.stdout.write(json.dumps({"name": "gpu_all_variants", "training_s": round(total_s, 1), "goal_s": GOAL_S}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
