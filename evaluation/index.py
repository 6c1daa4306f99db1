"""The one index of a run: build it, search it, say what it is. FAISS lives here; torch must not be in this process.

    python -m evaluation.index sweep RUN      nprobe (and k_factor) against fidelity, Contain@50, R@5 and P95

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
from evaluation.index_kinds import BUILDERS, PARAMETERS, Vectors, resolve, set_breadth
from evaluation.latency import one_thread
from evaluation.metrics import K_MAX

Rows = npt.NDArray[np.int64]

NUM_SAMPLED = 300  # corpus rows on which fidelity is measured: 15,000 neighbours, standard error about 0.003
DISTURBED_COSINE = 0.5
"""Predictions are no rows of the corpus, and off it an index finds less. Rows turned away by noise to this cosine
stand for them: on 26,998 real chunks ivf_flat at nprobe 64 finds 0.962 of a row's top 50, 0.939 of a trained model's
prediction's and 0.932 of such a row's; with coarse product codes 0.93, 0.79 and 0.80."""


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
        assert config.kind in BUILDERS, "auto is resolved before"
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


def build_index(vectors: npt.NDArray[np.floating], config: IndexConfig) -> SearchIndex:
    """Build the configured index over (N, D) vectors and measure its fidelity; `auto` chooses the kind here."""
    if vectors.ndim != 2 or len(vectors) == 0:
        raise ValueError(f"index: expected vectors (N, D) with N >= 1, got {vectors.shape}; check the payload")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if config.kind == "auto":
        from evaluation.index_auto import choose

        return choose(vectors, config)
    index = build_kind(vectors, config)
    found = {"fidelity": 1.0, "fidelity_disturbed": 1.0} if config.kind == "flat" else sampled_fidelity(index, vectors)
    index.notes |= {name: round(value, 4) for name, value in found.items()}
    return index


def build_kind(vectors: Vectors, config: IndexConfig, centroids: Vectors | None = None) -> SearchIndex:
    """Build one kind; centroids (nlist, D) spare an inverted file its k-means."""
    started = time.perf_counter()
    resolved = resolve(config, len(vectors))
    index = BUILDERS[resolved.kind](vectors, resolved, centroids)
    return SearchIndex(index, resolved, time.perf_counter() - started, {"chosen_by": "configuration"})


def sample_rows(vectors: Vectors, seed: int, num_rows: int = NUM_SAMPLED) -> Vectors:
    """A seeded sample of the corpus's own rows, (up to num_rows, D), to measure an index with."""
    chosen = np.random.default_rng(seed).choice(len(vectors), min(num_rows, len(vectors)), replace=False)
    return np.ascontiguousarray(vectors[np.sort(chosen)])


def disturb(rows: Vectors, seed: int, cosine: float = DISTURBED_COSINE) -> Vectors:
    """Turn unit rows (Q, D) away from themselves, in a random direction, to about the given cosine."""
    # A stream of its own: a corpus drawn with the same seed would otherwise be its own noise.
    noise = np.random.default_rng((seed, 1)).standard_normal(rows.shape).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    turned = cosine * rows + (1.0 - cosine**2) ** 0.5 * noise
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True), dtype=np.float32)


def sampled_fidelity(index: SearchIndex, vectors: Vectors) -> dict[str, float]:
    """Fidelity over a sample of the corpus's own rows, and over the same rows disturbed."""
    sample = sample_rows(vectors, index.config.seed)
    return {
        "fidelity": fidelity(index, vectors, sample),
        "fidelity_disturbed": fidelity(index, vectors, disturb(sample, index.config.seed)),
    }


def exact_neighbours(vectors: npt.NDArray[np.floating], queries: Vectors, k: int = K_MAX) -> Rows:
    """The exact top k of each query by a scan of all vectors: (Q, min(k, N))."""
    _, rows = faiss.knn(
        np.ascontiguousarray(queries, dtype=np.float32),
        np.ascontiguousarray(vectors, dtype=np.float32),
        min(k, len(vectors)),
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    return np.asarray(rows)


def fidelity(index: SearchIndex, vectors: npt.NDArray[np.floating], queries: Vectors, k: int = K_MAX) -> float:
    """Share of the exact top k (by a flat scan of `vectors`) that the index finds, over (Q, D) queries."""
    exact = exact_neighbours(vectors, queries, k)
    return overlap(exact, index.search(queries, exact.shape[1])[1])


def overlap(exact: Rows, found: Rows) -> float:
    """Mean share of each row of `exact` (Q, K) that is also in the same row of `found` (Q, K)."""
    return float(overlaps(exact, found).mean())


def overlaps(exact: Rows, found: Rows) -> npt.NDArray[np.float64]:
    """That share for each query: (Q,)."""
    shared = [len(np.intersect1d(a, b[b >= 0])) for a, b in zip(exact, found, strict=True)]
    return np.asarray(shared, dtype=np.float64) / float(exact.shape[1])


if __name__ == "__main__":
    from evaluation.sweep import main

    raise SystemExit(main())
