"""Are novelty and the closed-form baselines a matter of seconds and minutes at full size, in little memory?

    python -m tests.benchmarks.baselines [NUM_ROWS DIM]     # 584545 768: ten minutes on two quiet cores, 2 GB of disk

Each task runs in a process of its own over a memory map of float32, 5,244 queries, 396,258 training windows (novelty:
all windows, so nearly every row stands in training). `_seconds` are those of two cores: half the CPU time, since a
busy machine stretches wall time (which is in the detail). `_over_products` are over the CPU time of the same number of
operations in plain matrix products, measured beside in the same process.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from data.windows.novelty import max_train_cosine
from data.windows.table import build_windows
from evaluation.retrieval.baselines import fit_baseline
from evaluation.retrieval.fitted.choice import TrainingData
from tests.benchmarks.data_scale import SEED_DIM, SEED_ROWS, SEED_WINDOWS, peak_bytes
from tests.benchmarks.data_synthetic import make_keys, vector_blocks

NUM_QUERIES, CONTEXT, MIN_CHUNKS = 5_244, 5, 10
LIMITS = {"novelty_seconds": 60, "novelty_over_products": 1.5, "ridge_seconds": 600}
LIMITS |= {"ridge_peak_gib": 3, "nearest_context_seconds": 300, "nearest_context_over_products": 1.5}


def task(name: str, folder: Path) -> dict[str, Any]:
    """Run one task on the vectors in a folder; return its seconds, operations, peak memory and what was chosen."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    rows = build_windows(*make_keys(len(vectors)), CONTEXT, MIN_CHUNKS).rows
    cut = min(SEED_WINDOWS, len(rows) * 3 // 4)
    train, rest = rows[:cut], rows[cut:]
    queries = rest[np.linspace(0, len(rest) - 1, min(NUM_QUERIES, len(rest))).astype(int)]
    dim = vectors.shape[1]
    vectors[::64].sum()  # the map's pages are read before the clock starts
    rate = _products_a_second()
    started, cpu_started, found = time.perf_counter(), time.process_time(), {}
    if name == "novelty":
        found["smallest"] = float(max_train_cosine(vectors, queries[:, -1], rows).min())
        found["operations"] = 2 * len(queries) * len(np.unique(rows)) * dim
    else:
        baseline = fit_baseline(name, TrainingData(vectors, train, rest, np.ones(len(rest), bool)))
        found["fit_cpu_seconds"] = time.process_time() - cpu_started
        baseline.predict(np.asarray(vectors[queries[:, :-1]]))
        found |= {"chosen": dict(baseline.chosen), "operations": 2 * len(queries) * len(train) * CONTEXT * dim}
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    floor = found["operations"] / ((rate + _products_a_second()) / 2)
    found |= {"wall_seconds": wall, "cpu_seconds": cpu, "seconds": cpu / 2, "products_cpu_seconds": floor}
    return found | {"peak_gib": peak_bytes() / 2**30}


def _products_a_second() -> float:
    """Operations in a second of CPU time, in plain float32 matrix products of a size that suits them."""
    left, right = np.ones((2_048, 768), np.float32), np.ones((768, 4_096), np.float32)
    left @ right
    started = time.process_time()
    for _ in range(20):
        left @ right
    return 20 * 2 * 2_048 * 768 * 4_096 / (time.process_time() - started)


def measure(num_rows: int = SEED_ROWS, dim: int = SEED_DIM) -> list[dict[str, Any]]:
    """Write the vectors, run the tasks, and return one result a limit."""
    tasks: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        vectors = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(num_rows, dim))
        row = 0
        for block in vector_blocks(make_keys(num_rows)[1], dim):
            vectors[row : row + len(block)] = block
            row += len(block)
        vectors.flush()
        del vectors
        for name in ("novelty", "ridge", "nearest_context"):
            command = [sys.executable, "-m", "tests.benchmarks.baselines", "--task", name, folder]
            tasks[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return [_result(name, limit, tasks, num_rows, dim) for name, limit in LIMITS.items()]


def _result(name: str, limit: float, tasks: dict[str, Any], num_rows: int, dim: int) -> dict[str, Any]:
    subject = next(key for key in tasks if name.startswith(key))
    found = tasks[subject]
    kind = name.removeprefix(f"{subject}_")
    ratio = found["cpu_seconds"] / found["products_cpu_seconds"] if kind == "over_products" else found[kind]
    return {
        "name": name,
        "ratio": round(ratio, 3),
        "limit": limit,
        "better": "lower",
        "detail": {"rows": num_rows, "dim": dim, **found},
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        results = [task(sys.argv[2], Path(sys.argv[3]))]
    else:
        results = measure(*map(int, sys.argv[1:]))
    sys.stdout.write("".join(json.dumps(result) + "\n" for result in results))
