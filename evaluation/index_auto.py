"""`auto`: the fastest index whose fidelity suffices, measured on the corpus at hand, with a record of what was tried.

Candidates in order of simplicity: flat, ivf_flat, ivf_sq8, ivf_pq. A graph (hnsw) is left out: it takes many times
longer to build than everything else here together. Speed is the P95 of single queries on one thread, interleaved
between candidates, so that a busy machine slows all of them alike.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from evaluation.config import IndexConfig
from evaluation.index import Rows, SearchIndex, build_kind, exact_neighbours, overlap, sample_rows
from evaluation.index_kinds import PQ_COMPONENTS_PER_CODE, Vectors, resolve, train_cells
from evaluation.latency import Latency, measure, measure_interleaved
from evaluation.metrics import K_MAX

FLAT_IS_FAST_ENOUGH_MS = 0.5  # assumption: far below a model's forward pass and every latency gate in use
WORTH_LESS_EXACTNESS = 0.9  # a less simple index must take at most this share of the time of the simpler one
HOPELESS = 5.0  # candidates this many times slower than the fastest are not timed at length
NPROBES = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
K_FACTORS = (2, 4, 8)
NUM_TIMED = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """A built index at the least breadth that reaches the wanted fidelity."""

    index: SearchIndex
    config: IndexConfig
    fidelity: float

    @property
    def label(self) -> str:
        """Kind and breadth, e.g. `ivf_pq nprobe 96 k_factor 4`."""
        breadth = {"nprobe": self.config.nprobe} if self.config.kind.startswith("ivf") else {}
        if self.config.kind == "ivf_pq":
            breadth["k_factor"] = self.config.k_factor
        return " ".join([self.config.kind, *(f"{name} {value}" for name, value in breadth.items())])

    def search(self, query: Vectors) -> Rows:
        """Search with this candidate's breadth (several candidates may share one built index)."""
        return self.index.search(query, K_MAX)[1]


def choose(vectors: Vectors, config: IndexConfig) -> SearchIndex:
    """Build the candidates, keep the fastest that finds at least `min_fidelity` of the exact top 50."""
    started = time.perf_counter()
    sample = sample_rows(vectors, config.seed)
    flat = Candidate(build_kind(vectors, replace(config, kind="flat")), replace(config, kind="flat"), 1.0)
    quick = _quick_p95(flat, sample)
    if quick <= FLAT_IS_FAST_ENOUGH_MS:
        return _chosen(flat, [{"index": flat.label, "fidelity": 1.0, "p95_ms": round(quick, 3)}], started)
    candidates, refused = [flat], []
    exact = exact_neighbours(vectors, sample)
    for index in _inverted_files(vectors, config):
        reached = list(_least_breadths(index, sample, exact, config))
        candidates += reached
        if not reached:
            refused.append({"index": index.config.kind, "refused": f"fidelity below {config.min_fidelity}"})
    timed = _timed(candidates, sample)
    tried = [
        {"index": one.label, "fidelity": round(one.fidelity, 4), "p95_ms": round(timed[one.label].p95_ms, 3)}
        for one in candidates
    ]
    return _chosen(_fastest(candidates, timed), tried + refused, started)


def _inverted_files(vectors: Vectors, config: IndexConfig) -> Iterator[SearchIndex]:
    """The three kinds over one set of cells, one after the other, so that only kept ones stay in memory."""
    resolved = resolve(config, len(vectors))
    centroids = train_cells(vectors, resolved)
    for kind in ("ivf_flat", "ivf_sq8", "ivf_pq"):
        if kind == "ivf_pq" and vectors.shape[1] % PQ_COMPONENTS_PER_CODE:
            continue
        yield build_kind(vectors, replace(resolved, kind=kind), centroids)


def _least_breadths(index: SearchIndex, sample: Vectors, exact: Rows, config: IndexConfig) -> Iterator[Candidate]:
    """For each k_factor the smallest nprobe that reaches the wanted fidelity, if one does."""
    nlist = index.config.nlist or 1
    probes = sorted({min(nprobe, nlist) for nprobe in NPROBES})
    for k_factor in K_FACTORS if index.config.kind == "ivf_pq" else (config.k_factor,):
        for nprobe in probes:
            index.with_breadth(nprobe=nprobe, k_factor=k_factor)
            reached = overlap(exact, index.search(sample, exact.shape[1])[1])
            if reached >= config.min_fidelity:
                yield Candidate(index, index.config, reached)
                break


def _timed(candidates: Iterable[Candidate], sample: Vectors) -> dict[str, Latency]:
    """Latency by label; the hopeless keep their first short measurement."""
    candidates = list(candidates)
    first = {one.label: _timed_alone(one, sample, 5) for one in candidates}
    fastest = min(latency.p50_ms for latency in first.values())
    close = [one for one in candidates if first[one.label].p50_ms <= HOPELESS * fastest]

    def searcher(one: Candidate) -> Any:
        def search(query: Vectors) -> Rows:
            return one.search(query)

        return lambda: one.index.with_breadth(nprobe=one.config.nprobe, k_factor=one.config.k_factor), search

    with close[0].index.search_on_one_thread():
        return first | measure_interleaved({one.label: searcher(one) for one in close}, sample, NUM_TIMED)


def _timed_alone(one: Candidate, sample: Vectors, num_timed: int) -> Latency:
    one.index.with_breadth(nprobe=one.config.nprobe, k_factor=one.config.k_factor)
    with one.index.search_on_one_thread():
        return measure(one.search, sample, num_timed, warmup=2)


def _quick_p95(flat: Candidate, sample: Vectors) -> float:
    """A few queries tell whether a flat scan is fast enough at all; if it may be, many are timed."""
    if _timed_alone(flat, sample, 5).p50_ms > 2.0 * FLAT_IS_FAST_ENOUGH_MS:
        return float("inf")
    return _timed_alone(flat, sample, NUM_TIMED).p95_ms


def _fastest(candidates: list[Candidate], timed: dict[str, Latency]) -> Candidate:
    """Walk from simple to less simple; each step must pay."""
    chosen = candidates[0]
    for one in candidates[1:]:
        if timed[one.label].p95_ms <= WORTH_LESS_EXACTNESS * timed[chosen.label].p95_ms:
            chosen = one
    return chosen


def _chosen(one: Candidate, tried: list[dict[str, Any]], started: float) -> SearchIndex:
    index = one.index.with_breadth(nprobe=one.config.nprobe, k_factor=one.config.k_factor)
    notes = {"chosen_by": "auto", "fidelity": round(one.fidelity, 4), "tried": tried}
    return SearchIndex(index.faiss_index, index.config, time.perf_counter() - started, notes)
