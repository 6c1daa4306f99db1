"""Ratios of the models' speed, each measured in one run and interleaved, so that a busy machine slows both sides alike.

One thread and its CPU time, as a trial trains beside another; set BENCH_THREADS for more and wall time.

    python -m tests.benchmarks.models_speed

Every function returns {"name", "ratio", "limit", "better", "detail"}; the ratio is the median of the rounds' ratios.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks import mamba
from models.blocks.build import build_variant
from models.blocks.mamba import MambaBlock
from models.blocks.ssd import ssd, ssd_reference
from models.cpu.memory import keep_freed_memory
from models.spec.costs import flops_per_window
from models.spec.loss import LossConfig
from models.spec.optim import OptimConfig
from models.training.losses import Loss
from models.training.optim import build_optimizer, clip_gradients

BATCH, LENGTH, STATE = 256, 5, 128
CORPUS_ROWS = 20_000

Result = dict[str, Any]


def block_over_linears(d_model: int, limit: float, rounds: int) -> Result:
    """Forward + backward of a MambaBlock over those of its own two linear layers alone, for the same tokens."""
    block = MambaBlock(d_model, STATE)
    run_block = forward_backward(block, channel_major_input(d_model))
    in_proj, out_proj = block.in_proj, block.out_proj
    run_in = forward_backward(in_proj, torch.randn(BATCH * LENGTH, in_proj.in_features, requires_grad=True))
    run_out = forward_backward(out_proj, torch.randn(BATCH * LENGTH, out_proj.in_features, requires_grad=True))

    def run_linears() -> None:
        run_in()
        run_out()

    block_s, linears_s, ratio = interleaved(run_block, run_linears, rounds)
    detail = f"({BATCH}, {LENGTH}, {d_model}, d_state {STATE}): block {ms(block_s)}, its linear layers {ms(linears_s)}"
    return result(f"block_over_linears_{d_model}", ratio, limit, "lower", detail)


def step_over_floor(rounds: int = 5) -> Result:
    """A training step of mamba_s at 768 over the same number of operations in plain matrix products."""
    torch.manual_seed(0)
    dim = 768
    model = build_variant("mamba_s", dim, d_model=768).train()
    loss, config = Loss(LossConfig()), OptimConfig()
    optimizer = build_optimizer(model, config)
    payload = F.normalize(torch.randn(CORPUS_ROWS, dim), dim=-1)

    def step() -> None:
        rows = torch.randint(0, CORPUS_ROWS, (BATCH, LENGTH + 1))
        vectors = payload[rows.flatten()].view(BATCH, LENGTH + 1, dim)
        optimizer.zero_grad()
        loss(model(vectors[:, :LENGTH]), vectors, rows).total.backward()
        clip_gradients(model.parameters(), config)
        optimizer.step()

    logits = 2 * (BATCH * LENGTH) ** 2 * dim
    operations = 3 * (BATCH * flops_per_window(model.spec, dim, LENGTH) + logits)  # backward costs two products for one
    floor, products = plain_products(operations)
    step_s, floor_s, ratio = interleaved(step, floor, rounds, warmup=2)
    rate = operations / floor_s / 1e9
    floor_words = f"{products} products of the same {operations / 1e9:.0f} GFLOP {ms(floor_s)} ({rate:.0f} GFLOP/s)"
    detail = f"step {ms(step_s)}, {floor_words}"
    return result("step_over_floor", ratio, 1.8, "lower", detail)


def reference_over_block(rounds: int = 2) -> Result:
    """The block on the sequential recurrence, its state materialised, over the block as it is."""
    block = MambaBlock(256, STATE)
    run_block = forward_backward(block, channel_major_input(256))

    def run_reference() -> None:
        mamba.ssd = ssd_reference
        try:
            forward_backward(block.forward_composed, torch.randn(BATCH, LENGTH, 256, requires_grad=True))()
        finally:
            mamba.ssd = ssd

    reference_s, block_s, ratio = interleaved(run_reference, run_block, rounds, warmup=1)
    return result("reference_over_block", ratio, 20.0, "higher", f"recurrence {ms(reference_s)}, block {ms(block_s)}")


def run_all() -> list[Result]:
    """Measure every ratio; about a minute on two cores."""
    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    return [
        block_over_linears(256, limit=1.5, rounds=30),
        block_over_linears(768, limit=1.25, rounds=10),
        step_over_floor(),
        reference_over_block(),
    ]


def channel_major_input(d_model: int) -> Tensor:
    """Return an input (B, L, d_model) in the memory order in which a model hands it from block to block."""
    return torch.randn(d_model, LENGTH, BATCH).permute(2, 1, 0).requires_grad_()


def forward_backward(module: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Return a function that runs the module on x and a fixed gradient back through it."""
    with torch.no_grad():
        grad = torch.randn_like(module(x))

    def run() -> None:
        module(x).backward(grad)

    return run


def plain_products(operations: int) -> tuple[Callable[[], None], int]:
    """Return a function that spends so many operations in products of the width of mamba_s's input projection."""
    tokens, inner, outer = BATCH * LENGTH, 768, 3352
    left, right, out = torch.randn(tokens, inner), torch.randn(inner, outer), torch.empty(tokens, outer)
    count = round(operations / (2 * tokens * inner * outer))

    def run() -> None:
        for _ in range(count):
            torch.mm(left, right, out=out)

    return run, count


def interleaved(
    first: Callable[[], None], second: Callable[[], None], rounds: int, warmup: int = 3
) -> tuple[float, float, float]:
    """Time both in turn; return their median seconds and the median of the rounds' ratios first / second."""
    times: list[tuple[float, float]] = []
    for number in range(warmup + rounds):
        pair = (seconds(first), seconds(second))
        if number >= warmup:
            times.append(pair)
    ratio = statistics.median(one / other for one, other in times)
    return statistics.median(one for one, _ in times), statistics.median(other for _, other in times), ratio


def seconds(run: Callable[[], None]) -> float:
    """Return the seconds of one call: CPU time for one thread, which a busy machine disturbs less, else wall time."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def ms(value_s: float) -> str:
    """Format seconds as milliseconds."""
    return f"{1e3 * value_s:.1f} ms"


def result(name: str, ratio: float, limit: float, better: str, detail: str) -> Result:
    """Return one line of bench.json."""
    threads = f"threads: {torch.get_num_threads()}"
    return {"name": name, "ratio": round(ratio, 3), "limit": limit, "better": better, "detail": f"{detail}; {threads}"}


if __name__ == "__main__":
    sys.stdout.write("\n".join(json.dumps(line) for line in run_all()) + "\n")
