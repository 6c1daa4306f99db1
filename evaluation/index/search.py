"""One built index: search it, say what it is. FAISS lives here; torch must not be in this process.

N corpus rows, Q queries, D dimension, K neighbours. Vectors have norm 1 and the metric is the inner product.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from evaluation.config import IndexConfig
from evaluation.index.kinds import PARAMETERS, Vectors, build, resolve, set_breadth
from evaluation.measures.latency import one_thread

Rows = npt.NDArray[np.int64]


class SearchIndex:
    """A built FAISS index with the resolved parameters that made it.

    `source_rows` (N,): the number in the index of each corpus row, for an index that numbers them otherwise.
    """

    def __init__(
        self,
        index: Any,
        config: IndexConfig,
        build_s: float,
        notes: dict[str, Any] | None = None,
        source_rows: npt.NDArray[np.int32] | None = None,
    ) -> None:
        assert config.kind in PARAMETERS, "auto is resolved before"
        self.faiss_index = index
        self._corpus_row = None if source_rows is None else _inverse(source_rows)
        self.config = config
        self.build_s = build_s
        self.notes = dict(notes or {})

    @property
    def num_rows(self) -> int:
        """N."""
        return int(self.faiss_index.ntotal)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.faiss_index.d)

    def search(self, queries: npt.NDArray[np.floating], k: int) -> tuple[Vectors, Rows]:
        """Scores (Q, k) float32 and corpus rows (Q, k) int64, best first; row -1 where fewer than k were found."""
        assert queries.ndim == 2 and queries.shape[1] == self.dim
        scores, rows = self.faiss_index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        if self._corpus_row is not None:
            known = (rows >= 0) & (rows < self.num_rows)
            rows = self._corpus_row[np.where(known, rows, self.num_rows)]
        return scores, rows

    def search_on_one_thread(self) -> AbstractContextManager[None]:
        """Context in which searches use one thread, as latency is defined."""
        return one_thread(faiss.omp_set_num_threads, faiss.omp_get_max_threads)

    def with_breadth(self, *, nprobe: int | None = None, k_factor: int | None = None) -> "SearchIndex":
        """Change in place how much of the built index a search reads; kinds without the setting ignore it."""
        config = self.config
        self.config = replace(config, nprobe=nprobe or config.nprobe, k_factor=k_factor or config.k_factor)
        set_breadth(self.faiss_index, self.config)
        return self

    def describe(self) -> dict[str, Any]:
        """Kind, parameters, N, D, build seconds, fidelity and how it was chosen: the protocol line names these."""
        parameters = {name: getattr(self.config, name) for name in PARAMETERS[self.config.kind]}
        built = {"n": self.num_rows, "dim": self.dim, "build_s": round(self.build_s, 3)}
        return {"kind": self.config.kind, **parameters, **built, **self.notes}


def _inverse(source_rows: npt.NDArray[np.int32]) -> Rows:
    """Corpus row by number in the index, (N + 1,); the last entry, -1, is for numbers that are none."""
    corpus_row = np.full(len(source_rows) + 1, -1, np.int64)
    corpus_row[source_rows] = np.arange(len(source_rows))
    return corpus_row


def build_kind(vectors: Vectors, config: IndexConfig, centroids: Vectors | None = None) -> SearchIndex:
    """Build one kind; centroids (nlist, D) spare an inverted file its k-means."""
    started = time.perf_counter()
    resolved = resolve(config, len(vectors))
    index = build(vectors, resolved, centroids)
    return SearchIndex(index, resolved, time.perf_counter() - started, {"chosen_by": "configuration"})
