"""How long the four Mamba variants would train at the seed's sizes on one GPU: 20 epochs of 396,258 windows, D = 768.

    python -m tests.benchmarks.models_gpu            # on a GPU: timed steps of every variant, extrapolated to 20 epochs
    python -m tests.benchmarks.models_gpu --check    # anywhere: three tiny steps of every variant, to see that it runs

Vectors are synthetic, of the right shape, and lie on the device, as does the gather. bfloat16 autocast, fused AdamW,
forward and loss under `torch.compile(mode="reduce-overhead")`, replayed as CUDA graphs; --eager leaves that out.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.loss_config import LossConfig
from models.losses import build_loss
from models.optim import OptimConfig, build_optimizer, clip_gradients, set_lr
from models.variants import flops_per_window

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


def training_step(name: str, payload: Tensor, batch: int, total_steps: int, compiled: bool) -> Callable[[], None]:
    """Return a function that draws a batch of rows and takes one training step."""
    device = payload.device
    model = models.build_variant(name, payload.shape[1]).to(device).train()
    loss, config = build_loss(LossConfig()).to(device), OptimConfig()
    optimizer = build_optimizer(model, config)
    steps = 0

    def objective(rows: Tensor) -> Tensor:
        vectors = payload[rows.flatten()].view(*rows.shape, -1)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            predictions = model(vectors[:, :LENGTH])
        return loss(predictions, vectors, rows).total

    run = torch.compile(objective, mode="reduce-overhead") if compiled else objective

    def step() -> None:
        nonlocal steps
        rows = torch.randint(0, len(payload), (batch, LENGTH + 1), device=device)
        set_lr(optimizer, steps, total_steps, config)
        run(rows).backward()
        clip_gradients(model.parameters(), config)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1

    return step


def measure(name: str, device: torch.device, scale: Scale, compiled: bool) -> dict[str, object]:
    """Time steps of one variant and extrapolate to the whole training."""
    torch.manual_seed(0)
    payload = F.normalize(torch.randn(scale.corpus_rows, scale.dim, device=device), dim=-1)
    batch = scale.batch or BATCH[name]
    total_steps = EPOCHS * (WINDOWS // batch)
    step = training_step(name, payload, batch, total_steps, compiled)
    start = time.perf_counter()
    for _ in range(scale.warmup_steps):
        step()
    synchronise(device)
    warmup_s, start = time.perf_counter() - start, time.perf_counter()
    for _ in range(scale.timed_steps):
        step()
    synchronise(device)
    step_s = (time.perf_counter() - start) / scale.timed_steps
    operations = 3 * batch * flops_per_window(models.variants.make_spec(name), scale.dim, LENGTH)
    return {
        "name": f"gpu_{name}",
        "step_ms": round(1e3 * step_s, 3),
        "tflops": round(operations / step_s / 1e12, 2),
        "warmup_s": round(warmup_s, 1),
        "training_s": round(step_s * total_steps + warmup_s, 1),
    }


def synchronise(device: torch.device) -> None:
    """Wait for the device's queue, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    torch.set_float32_matmul_precision("high")
    rows = [measure(name, device, CHECK if arguments.check else FULL, compiled) for name in BATCH]
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
