"""Does the data path hold at 584,545 chunks? Memory of the build, time to open, throughput of the stream, growth.

    python -m tests.benchmarks.data_scale          # the ratios, a quarter of the chunks on disk (a minute)
    python -m tests.benchmarks.data_scale full     # the ratios at 584,545 x 768 (two minutes, 4 GB of disk)
    python -m tests.benchmarks.data_scale table    # cost from 10,000 to 1,000,000 chunks

Each ratio is a dict {name, ratio, limit, better, detail}; detail holds what it was computed from.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.windows.stream import build_stream, epoch_order, iter_epochs
from data.windows.table import build_windows
from tests.benchmarks.data_synthetic import make_keys, make_payload

SEED_ROWS, SEED_DIM, SEED_WINDOWS = 584_545, 768, 396_258
BATCH_SIZE = 256

_BUILD = """
import json, sys, time
from pathlib import Path
from tests.benchmarks.data_scale import peak_bytes
from data.payload.store import open_payload
from data.windows.table import WindowProvenance, build_windows, save_windows, split_by_article
start = time.perf_counter()
payload = open_payload(sys.argv[1])
opened = time.perf_counter()
table = build_windows(payload.article_index, payload.chunk_index, 5, 10)
splits = split_by_article(table, 0.1, 0.1, seed=0)
provenance = WindowProvenance(payload_sha256=payload.provenance.sha256, context_length=5, min_article_chunks=10)
save_windows(Path(sys.argv[1]) / "windows", splits, provenance)
built = time.perf_counter()
found = {"open_s": opened - start, "build_s": built - opened, "windows": len(table), "peak_bytes": peak_bytes()}
if sys.argv[2] == "preflight":
    from data.preflight.run import blocking, run_preflight
    found["blocking"] = len(blocking(run_preflight(payload, splits)))
    found["preflight_s"] = time.perf_counter() - built
    found["preflight_peak_bytes"] = peak_bytes()
print(json.dumps(found))
"""


def build_peak_over_payload(
    num_rows: int = SEED_ROWS, dim: int = SEED_DIM, *, preflight: bool = True
) -> dict[str, Any]:
    """Measure the peak resident memory of building windows and splits in a fresh process, over the payload's bytes.

    The whole process counts, interpreter included. Copied windows (context and target as vectors) would need 6.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        payload = make_payload(Path(folder) / "payload", num_rows, dim)
        made_s = time.perf_counter() - start
        num_bytes = payload.vectors.nbytes
        found = measure_build(payload.path, preflight=preflight)
    return {
        "name": "build_peak_over_payload",
        "ratio": found["peak_bytes"] / num_bytes,
        "limit": 1.3,
        "better": "lower",
        "detail": {"rows": num_rows, "dim": dim, "payload_bytes": num_bytes, "make_s": made_s, **found},
    }


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far.

    VmHWM begins with the program; ru_maxrss, the fallback off Linux, begins with the process that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_build(payload: Path, *, preflight: bool) -> dict[str, Any]:
    """Open a payload, build windows and splits, and perhaps run the preflight, in a process of its own."""
    command = [sys.executable, "-c", _BUILD, str(payload), "preflight" if preflight else ""]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def stream_over_gather(
    num_windows: int = SEED_WINDOWS, num_rows: int = SEED_ROWS, dim: int = SEED_DIM, repeats: int = 5
) -> dict[str, Any]:
    """Measure windows a second through the Ray Data stream and a gather, over the same gather on a bare permutation.

    Both sides cut batches of 256 from one order and gather (256, 6, dim) float32 with torch. They take turns, so that
    other load hits both; the ratio is that of the medians. One execution serves all epochs, as in a trial; the time to
    the first batch of all is reported apart. Ray must be running, or is started with two CPUs.
    """
    import ray
    import torch

    torch.set_num_threads(1)
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((num_rows, dim), dtype=np.float32))
    rows = torch.from_numpy(build_windows(*make_keys(num_rows), 5, 10).rows[:num_windows].astype(np.int64))
    num_windows = len(rows)
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    stream = build_stream(num_windows, seed=0, epochs=range(repeats))

    def gather(windows: np.ndarray) -> float:
        return float(vectors[rows[torch.from_numpy(windows).long()]][0, 0, 0])

    _bare_epoch(gather, num_windows, 0)  # warms the pages
    bare, streamed, first_batch_s = [], [], 0.0
    epochs = iter_epochs(stream, num_windows, BATCH_SIZE, range(repeats))
    for _ in range(repeats):
        start = time.perf_counter()
        _, batches = next(epochs)
        for windows in batches:
            gather(windows)
            first_batch_s = first_batch_s or time.perf_counter() - start
        streamed.append(time.perf_counter() - start)
        bare.append(_bare_epoch(gather, num_windows, len(bare)))
    epochs.close()
    bare_rate, stream_rate = (num_windows / statistics.median(times) for times in (bare, streamed))
    return {
        "name": "stream_over_gather",
        "ratio": stream_rate / bare_rate,
        "limit": 0.9,
        "better": "higher",
        "detail": {
            "windows": num_windows,
            "dim": dim,
            "batch_size": BATCH_SIZE,
            "repeats": repeats,
            "bare_windows_per_s": bare_rate,
            "stream_windows_per_s": stream_rate,
            "first_batch_s": first_batch_s,
        },
    }


def _bare_epoch(gather: Callable[[np.ndarray], float], num_windows: int, epoch: int) -> float:
    order = epoch_order(num_windows, 0, epoch)
    start = time.perf_counter()
    for position in range(0, num_windows - BATCH_SIZE + 1, BATCH_SIZE):
        gather(order[position : position + BATCH_SIZE])
    return time.perf_counter() - start


def scale_table(sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000), dim: int = 256) -> list[dict[str, Any]]:
    """Measure opening, windows and preflight over the number of chunks; one row a size."""
    table = []
    for num_rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            payload = make_payload(Path(folder) / "payload", num_rows, dim)
            found = measure_build(payload.path, preflight=True)
            table.append({"chunks": num_rows, "payload_mb": payload.vectors.nbytes / 1e6, **found})
    return table


def ratios(*, full: bool = False) -> list[dict[str, Any]]:
    """Return the ratios of the data path; `full` builds 584,545 x 768 on disk instead of a quarter of it."""
    return [
        build_peak_over_payload(SEED_ROWS if full else SEED_ROWS // 4, preflight=full),
        stream_over_gather(repeats=5 if full else 3),
    ]


if __name__ == "__main__":
    results = scale_table() if "table" in sys.argv else ratios(full="full" in sys.argv)
    for result in results:
        sys.stdout.write(json.dumps(result) + "\n")
