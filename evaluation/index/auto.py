"""`auto`: the fastest index whose fidelity suffices, measured on the corpus at hand, with a record of what was tried.

Candidates in order of simplicity: flat, ivf_flat, ivf_sq8, ivf_pq. A graph (hnsw) is left out: it takes many times
longer to build than everything else here together.

Fidelity is measured on a sample of the corpus's own rows and on the same rows disturbed, which stand for predictions;
both must reach `min_fidelity` with 95 % confidence. Speed is the P95 of single queries on one thread, candidates in
turns, in seconds of that thread: wall time would choose by what else runs on the machine.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluation.config import IndexConfig
from evaluation.index.fidelity import disturb, exact_neighbours, overlaps, sample_rows
from evaluation.index.kinds import PQ_COMPONENTS_PER_CODE, Vectors, centroids_of
from evaluation.index.search import Rows, SearchIndex, build_kind
from evaluation.measures.latency import Latency, measure, measure_interleaved
from evaluation.measures.metrics import K_MAX

FLAT_IS_FAST_ENOUGH_MS = 0.5  # assumption: far below a model's forward pass and every latency gate in use
WORTH_LESS_EXACTNESS = 0.9  # a less simple index must take at most this share of the time of the simpler one
HOPELESS = 5.0  # candidates this many times slower than the fastest are not timed at length
NPROBES = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
K_FACTORS = (2, 4, 8, 16)
NUM_TIMED = 200
ONE_SIDED_95 = 1.645  # standard errors


@dataclass(frozen=True, slots=True)
class Candidate:
    """A built index at the least breadth that reaches the wanted fidelity."""

    index: SearchIndex
    config: IndexConfig
    fidelity: float
    fidelity_disturbed: float

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


@dataclass(frozen=True, slots=True)
class Probe:
    """Queries and their exact neighbours."""

    queries: Vectors  # (Q, D)
    exact: Rows  # (Q, K)

    def fidelity(self, index: SearchIndex) -> tuple[float, float]:
        """The mean share that is found and its lower 95 % bound."""
        shares = overlaps(self.exact, index.search(self.queries, self.exact.shape[1])[1])
        return float(shares.mean()), float(shares.mean() - ONE_SIDED_95 * shares.std() / len(shares) ** 0.5)


def choose(vectors: Vectors, config: IndexConfig) -> SearchIndex:
    """Build the candidates, keep the fastest that finds at least `min_fidelity` of the exact top 50."""
    started = time.perf_counter()
    sample = sample_rows(vectors, config.seed)
    flat = Candidate(build_kind(vectors, replace(config, kind="flat")), replace(config, kind="flat"), 1.0, 1.0)
    quick = _quick_p95(flat, sample)
    if quick <= FLAT_IS_FAST_ENOUGH_MS:
        return _chosen(flat, [{"index": flat.label, "fidelity": 1.0, "p95_cpu_ms": round(quick, 3)}], started)
    candidates, refused = [flat], []
    disturbed = disturb(sample, config.seed)
    probes = [Probe(queries, exact_neighbours(vectors, queries)) for queries in (sample, disturbed)]
    for index in _inverted_files(vectors, config):
        reached = list(_least_breadths(index, probes, config))
        candidates += reached
        if not reached:
            refused.append({"index": index.config.kind, "refused": f"fidelity below {config.min_fidelity}"})
    timed = _timed(candidates, disturbed)
    tried = [_record(one, timed[one.label]) for one in candidates]
    return _chosen(_fastest(candidates, timed), tried + refused, started)


def _record(one: Candidate, latency: Latency) -> dict[str, Any]:
    return {
        "index": one.label,
        "fidelity": round(one.fidelity, 4),
        "fidelity_disturbed": round(one.fidelity_disturbed, 4),
        "p95_cpu_ms": round(latency.p95_ms, 3),
    }


def _inverted_files(vectors: Vectors, config: IndexConfig) -> Iterator[SearchIndex]:
    """The three kinds over one set of cells, one after the other."""
    centroids = None
    for kind in ("ivf_flat", "ivf_sq8", "ivf_pq"):
        if kind == "ivf_pq" and vectors.shape[1] % PQ_COMPONENTS_PER_CODE:
            continue
        index = build_kind(vectors, replace(config, kind=kind), centroids)
        centroids = centroids_of(index.faiss_index)
        yield index


def _least_breadths(index: SearchIndex, probes: Sequence[Probe], config: IndexConfig) -> Iterator[Candidate]:
    """For each k_factor the smallest nprobe that reaches the wanted fidelity on every probe, if one does."""
    nlist = index.config.nlist or 1
    widths = sorted({min(nprobe, nlist) for nprobe in NPROBES})
    for k_factor in K_FACTORS if index.config.kind == "ivf_pq" else (config.k_factor,):

        def reaches(nprobe: int, k_factor: int = k_factor) -> bool:
            index.with_breadth(nprobe=nprobe, k_factor=k_factor)
            return all(probe.fidelity(index)[1] >= config.min_fidelity for probe in probes)

        if not reaches(widths[-1]):
            continue
        # Fidelity grows with nprobe, so halving finds the least one in four searches instead of thirteen.
        least = widths[bisect_left(widths, True, key=reaches)]
        index.with_breadth(nprobe=least, k_factor=k_factor)
        yield Candidate(index, index.config, *(probe.fidelity(index)[0] for probe in probes))


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
        turns = {one.label: searcher(one) for one in close}
        return first | measure_interleaved(turns, sample, NUM_TIMED, clock=time.thread_time_ns)


def _timed_alone(one: Candidate, sample: Vectors, num_timed: int) -> Latency:
    one.index.with_breadth(nprobe=one.config.nprobe, k_factor=one.config.k_factor)
    with one.index.search_on_one_thread():
        return measure(one.search, sample, num_timed, warmup=2, clock=time.thread_time_ns)


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
    found = {"fidelity": round(one.fidelity, 4), "fidelity_disturbed": round(one.fidelity_disturbed, 4)}
    notes = {"chosen_by": "auto", **found, "tried": tried}
    return SearchIndex(index.faiss_index, index.config, time.perf_counter() - started, notes)
