"""What does a smoke evaluation cost over the search in it? 1,000 queries on 584,545 x 768 with ivf_flat.

    python -m tests.benchmarks.evaluation_smoke [NUM_ROWS DIM]     # 584545 768: minutes, 8 GB of memory, 4 GB of disk

From predictions in the trial to metrics and ranks back in it, through the evaluation actor, over one bare batched
`index.search` of the same queries, timed in the same actor; in turns, medians of seven.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from data.payload.store import write_payload
from evaluation.config import IndexConfig
from evaluation.index.fidelity import disturb
from evaluation.measures.metrics import K_MAX
from evaluation.service.actor import Evaluator
from tests.benchmarks.evaluation_synthetic import CHUNKS, drifting_vectors, keys

NUM_ROWS, DIM, NUM_QUERIES, CONTEXT = 584_545, 768, 1_000, 5
NLIST, NPROBE = 2_048, 64
LIMIT = 1.15
NUM_TURNS = 7


class TimedEvaluator(Evaluator):
    """The evaluator with a way to time the bare search inside its process."""

    def bare_search(self, predictions: np.ndarray) -> float:
        """Seconds of one batched search."""
        started = time.perf_counter()
        self._index.faiss_index.search(predictions, K_MAX)
        return time.perf_counter() - started


def smoke_over_faiss(num_rows: int = NUM_ROWS, dim: int = DIM) -> dict[str, Any]:
    """Seconds of a smoke evaluation over seconds of the bare search."""
    windows = _windows(num_rows)
    with tempfile.TemporaryDirectory() as folder:
        payload, predictions = _payload(Path(folder) / "payload", num_rows, dim, windows)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            config = IndexConfig(kind="ivf_flat", nlist=min(NLIST, num_rows // 39), nprobe=NPROBE)
            actor = ray.remote(TimedEvaluator).options(num_cpus=1)
            evaluator = actor.remote(payload, config, {"smoke": windows})
            ready = ray.get(evaluator.ready.remote())
            whole, bare = _turns(evaluator, predictions)
        finally:
            ray.shutdown()
    ratio = statistics.median(whole) / statistics.median(bare)
    detail = {"num_rows": num_rows, "dim": dim, "index": ready["index"], "whole_s": whole, "bare_s": bare}
    return {"name": "smoke_over_faiss", "ratio": ratio, "limit": LIMIT, "better": "lower", "detail": detail}


def _turns(evaluator: Any, predictions: np.ndarray) -> tuple[list[float], list[float]]:
    """One warm-up and then NUM_TURNS of each, alternating."""
    whole, bare = [], []
    for _ in range(NUM_TURNS + 1):
        bare.append(ray.get(evaluator.bare_search.remote(predictions)))
        started = time.perf_counter()
        answer = ray.get(evaluator.evaluate.remote("trial", "smoke", predictions))
        whole.append(time.perf_counter() - started)
        assert len(answer["ranks"]) == NUM_QUERIES
    return whole[1:], bare[1:]


def _windows(num_rows: int) -> np.ndarray:
    """(Q, L + 1) windows at random places of random articles."""
    rng = np.random.default_rng(0)
    start = rng.integers(num_rows // CHUNKS, size=NUM_QUERIES) * CHUNKS + rng.integers(
        CHUNKS - CONTEXT, size=NUM_QUERIES
    )
    return (start[:, None] + np.arange(CONTEXT + 1)).astype(np.int32)


def _payload(folder: Path, num_rows: int, dim: int, windows: np.ndarray) -> tuple[str, np.ndarray]:
    vectors = drifting_vectors(num_rows, dim)
    article, chunk = keys(num_rows)
    write_payload(
        folder,
        vectors=vectors,
        article_index=article,
        chunk_index=chunk,
        embedder="synthetic drift",
        source={"kind": "synthetic"},
    )
    return str(folder), disturb(vectors[windows[:, -1]], seed=0)


def main(arguments: list[str]) -> int:
    """Print the ratio as JSON; 1 when it misses its limit."""
    sizes = [int(argument) for argument in arguments] or [NUM_ROWS, DIM]
    result = smoke_over_faiss(*sizes)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
