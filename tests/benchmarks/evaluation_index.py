"""Does `index: auto` pay? P95 of the original ivf_flat (nlist 2048, nprobe 64) over P95 of what auto picks.

    python -m tests.benchmarks.evaluation_index [NUM_ROWS DIM]     # 584545 768: minutes, 8 GB of memory

Single queries on one thread, both indexes in turns, both at a fidelity of at least 0.97 on the corpus's own rows.
"""

import json
import sys
import time
from typing import Any

import faiss

from evaluation.config import IndexConfig
from evaluation.index.build import build_index
from evaluation.index.fidelity import disturb, exact_neighbours, overlap, sample_rows
from evaluation.index.kinds import centroids_of
from evaluation.index.search import SearchIndex, build_kind
from evaluation.measures.latency import measure_interleaved
from evaluation.measures.metrics import K_MAX
from tests.benchmarks.evaluation_synthetic import drifting_vectors

NUM_ROWS, DIM = 584_545, 768
NLIST, NPROBE = 2_048, 64
MIN_FIDELITY = 0.97
LIMIT = 4.5
NUM_TIMED = 600


def p95_gain(num_rows: int = NUM_ROWS, dim: int = DIM) -> dict[str, Any]:
    """P95 of the original index over P95 of auto's; a ratio of NaN when either fidelity is below 0.97."""
    vectors = drifting_vectors(num_rows, dim)
    started = time.perf_counter()
    auto = build_index(vectors, IndexConfig(kind="auto"))
    auto_s = time.perf_counter() - started
    nlist = min(NLIST, auto.config.nlist or NLIST)
    original = build_kind(
        vectors, IndexConfig(kind="ivf_flat", nlist=nlist, nprobe=NPROBE), centroids_of(auto.faiss_index)
    )
    sample = sample_rows(vectors, seed=1, num_rows=300)  # another sample than the one that auto looked at
    exact = exact_neighbours(vectors, sample)
    found = {
        name: overlap(exact, index.search(sample, exact.shape[1])[1])
        for name, index in (("original", original), ("auto", auto))
    }
    timed = measure_interleaved(
        {name: (lambda: None, _searcher(index)) for name, index in (("original", original), ("auto", auto))},
        disturb(sample, seed=1),
        NUM_TIMED,
    )
    enough = min(found.values()) >= MIN_FIDELITY
    ratio = timed["original"].p95_ms / timed["auto"].p95_ms if enough else float("nan")
    detail = {
        "num_rows": num_rows,
        "dim": dim,
        "auto": auto.describe(),
        "auto_build_s": auto_s,
        "fidelity": found,
        **{f"{name}_{key}": value for name, latency in timed.items() for key, value in latency.metrics().items()},
    }
    return {"name": "p95_gain", "ratio": ratio, "limit": LIMIT, "better": "higher", "detail": detail}


def _searcher(index: SearchIndex) -> Any:
    return lambda query: index.search(query, K_MAX)


def main(arguments: list[str]) -> int:
    """Print the ratio as JSON; 1 when it misses its limit."""
    sizes = [int(argument) for argument in arguments] or [NUM_ROWS, DIM]
    result = p95_gain(*sizes)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if result["ratio"] >= LIMIT else 1


if __name__ == "__main__":
    faiss.omp_set_num_threads(2)
    raise SystemExit(main(sys.argv[1:]))
