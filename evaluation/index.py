"""The one index of a run: build it, search it, say what it is. FAISS lives here; torch must not be in this process.

N corpus rows, Q queries, D dimension, K neighbours. Vectors have norm 1 and the metric is the inner product.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from evaluation.config import IndexConfig
from evaluation.latency import one_thread
from evaluation.metrics import K_MAX

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

FLAT_UP_TO_ROWS = 20_000  # assumption until `auto` measures: below it one thread reads all rows in about a millisecond
ROWS_PER_CELL = 39  # FAISS warns below this many training rows a centroid


class SearchIndex:
    """A built FAISS index with the parameters that made it."""

    def __init__(self, index: Any, config: IndexConfig, description: dict[str, Any], build_s: float) -> None:
        self._index = index
        self.config = config
        self.build_s = build_s
        self._description = description

    @property
    def num_rows(self) -> int:
        """N."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._index.d)

    def search(self, queries: npt.NDArray[np.floating], k: int) -> tuple[Vectors, Rows]:
        """Scores (Q, k) float32 and corpus rows (Q, k) int64, best first; row -1 where fewer than k were found."""
        assert queries.ndim == 2 and queries.shape[1] == self.dim
        scores, rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return scores, rows

    def search_on_one_thread(self) -> Any:
        """Context in which searches use one thread, as latency is defined."""
        return one_thread(faiss.omp_set_num_threads, faiss.omp_get_max_threads)

    def describe(self) -> dict[str, Any]:
        """Kind, parameters, N, D and build seconds: what the table's protocol line names."""
        return {**self._description, "n": self.num_rows, "dim": self.dim, "build_s": round(self.build_s, 3)}


def auto_nlist(num_rows: int) -> int:
    """The power of two at or below 4 sqrt(N), with at least 39 rows a cell: 2,048 for the 584,545 rows of the
    original protocol, 512 for 26,500.
    """
    cells = min(4.0 * num_rows**0.5, num_rows / ROWS_PER_CELL)
    return 1 << max(int(np.log2(max(cells, 1.0))), 0)


def resolve(config: IndexConfig, num_rows: int) -> IndexConfig:
    """Replace everything that is left to the corpus by numbers."""
    kind = config.kind
    if kind == "auto":
        kind = "flat" if num_rows <= FLAT_UP_TO_ROWS else "ivf_flat"
    nlist = min(config.nlist or auto_nlist(num_rows), num_rows)
    return replace(config, kind=kind, nlist=nlist, nprobe=min(config.nprobe, nlist))


def _build_flat(vectors: Vectors, config: IndexConfig) -> tuple[Any, dict[str, Any]]:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index, {"kind": "flat"}


def _build_ivf_flat(vectors: Vectors, config: IndexConfig) -> tuple[Any, dict[str, Any]]:
    dim = vectors.shape[1]
    assert config.nlist is not None, "resolve() sets it"
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, config.nlist, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = config.seed
    # A tiny corpus in a test or the debug run would print FAISS's advice; the rule of auto_nlist stands for it.
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    index.nprobe = config.nprobe
    return index, {"kind": "ivf_flat", "nlist": config.nlist, "nprobe": config.nprobe}


BUILDERS: dict[str, Callable[[Vectors, IndexConfig], tuple[Any, dict[str, Any]]]] = {
    "flat": _build_flat,
    "ivf_flat": _build_ivf_flat,
}


def build_index(vectors: npt.NDArray[np.floating], config: IndexConfig) -> SearchIndex:
    """Build the configured index over (N, D) vectors; `auto` is resolved here."""
    if vectors.ndim != 2 or len(vectors) == 0:
        raise ValueError(f"index: expected vectors (N, D) with N >= 1, got {vectors.shape}; check the payload")
    started = time.perf_counter()
    resolved = resolve(config, len(vectors))
    index, description = BUILDERS[resolved.kind](np.ascontiguousarray(vectors, dtype=np.float32), resolved)
    description["chosen_by"] = "auto" if config.kind == "auto" else "configuration"
    return SearchIndex(index, resolved, description, time.perf_counter() - started)


def fidelity(index: SearchIndex, vectors: npt.NDArray[np.floating], queries: Vectors, k: int = K_MAX) -> float:
    """Share of the exact top k (by a flat scan of `vectors`) that the index finds, over (Q, D) queries."""
    k = min(k, len(vectors))
    _, exact = faiss.knn(
        np.ascontiguousarray(queries, dtype=np.float32),
        np.ascontiguousarray(vectors, dtype=np.float32),
        k,
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    _, found = index.search(queries, k)
    return overlap(exact, found)


def overlap(exact: Rows, found: Rows) -> float:
    """Mean share of each row of `exact` (Q, K) that is also in the same row of `found` (Q, K)."""
    shared = sum(len(np.intersect1d(a, b[b >= 0])) for a, b in zip(exact, found, strict=True))
    return shared / exact.size
