"""Wall time of one query: batch of one, one thread, each query timed alone, after a warm-up.

A percentile of times per query, never a batch's time over its size: dividing hides the tail that a gate is about.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr  # scipy.stats takes a second to import, in every process

MIN_TIMED_SMOKE = 200
MIN_TIMED_FINAL = 1_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds, their 95 % intervals and the samples behind them."""

    samples_ms: npt.NDArray[np.float64]  # (T,)

    @property
    def p50_ms(self) -> float:
        """Median."""
        return percentile(self.samples_ms, 0.50)

    @property
    def p95_ms(self) -> float:
        """95th percentile."""
        return percentile(self.samples_ms, 0.95)

    @property
    def p99_ms(self) -> float:
        """99th percentile."""
        return percentile(self.samples_ms, 0.99)

    def metrics(self) -> dict[str, float]:
        """The three percentiles under the names of `evaluation.measures.metrics.METRICS`."""
        return {"p50_ms": self.p50_ms, "p95_ms": self.p95_ms, "p99_ms": self.p99_ms}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the three percentiles."""
        shares = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
        return {name: percentile_interval(self.samples_ms, share) for name, share in shares.items()}


def one_after_the_other(first: Latency, second: Latency, seed: int = 0) -> Latency:
    """The time of two steps that were timed apart: every sample of the second with one of the first, drawn at random.

    The two are taken as independent. Without samples of either there is no sum.
    """
    if not len(first.samples_ms) or not len(second.samples_ms):
        return Latency(np.empty(0))
    drawn = np.random.default_rng(seed).choice(first.samples_ms, len(second.samples_ms))
    return Latency(drawn + second.samples_ms)


def percentile(samples: npt.NDArray[np.float64], share: float) -> float:
    """The smallest sample with at least `share` of all samples at or below it (an observed time, not a blend)."""
    return float(np.quantile(samples, share, method="inverted_cdf")) if len(samples) else float("nan")


def percentile_interval(
    samples: npt.NDArray[np.float64], share: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Distribution-free interval of a percentile from order statistics.

    The number of samples below the true percentile is Binomial(T, share), so two order statistics bracket it
    (Conover, Practical Nonparametric Statistics, section 3.2). With too few samples an end is the extreme sample.
    """
    if len(samples) == 0:
        return (float("nan"), float("nan"))
    ordered = np.sort(samples)
    tail = (1.0 - confidence) / 2.0
    below = bdtr(np.arange(len(ordered) + 1), len(ordered), share)  # the chance of at most so many
    low, high = np.searchsorted(below, [tail, 1.0 - tail]) - [1, 0]
    return (float(ordered[max(low, 0)]), float(ordered[min(high, len(ordered) - 1)]))


def measure(
    search_one: Callable[[npt.NDArray[Any]], object],
    queries: npt.NDArray[Any],
    num_timed: int,
    warmup: int = 20,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Latency:
    """Time `search_one` on one query after another, starting over when the queries run out.

    Args:
        search_one: takes an array of one query; whoever calls has set it to one thread.
        queries: (Q, ...) with Q >= 1, e.g. vectors or the numbers of queries.
        num_timed: how many calls are timed.
        warmup: how many calls go before them untimed, so that caches and lazy set-up are not measured.
        clock: nanoseconds; wall time unless the caller wants the thread's own.
    """
    assert len(queries) > 0 and num_timed > 0
    batches_of_one = _cycle(queries)
    for _ in range(warmup):
        search_one(next(batches_of_one))
    samples_ms = np.empty(num_timed)
    for position in range(num_timed):
        query = next(batches_of_one)
        start = clock()
        search_one(query)
        samples_ms[position] = (clock() - start) / 1e6
    return Latency(samples_ms)


def measure_interleaved(
    subjects: Mapping[str, tuple[Callable[[], object], Callable[[npt.NDArray[Any]], object]]],
    queries: npt.NDArray[Any],
    num_timed: int,
    block: int = 20,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Latency]:
    """Time several searchers in turns of a few queries, so that a load on the machine falls on all of them.

    Args:
        subjects: by name, what prepares a searcher (not timed) and the searcher itself.
        queries: (Q, D).
        num_timed: timed calls per subject, rounded up to whole turns.
        block: timed calls per turn, after two untimed ones that bring its data back into the caches.
        clock: as in `measure`.
    """
    samples: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in subjects}
    for turn in range(-(-num_timed // block)):
        rolled = np.roll(queries, -turn * block, axis=0)
        for name, (prepare, search_one) in subjects.items():
            prepare()
            samples[name].append(measure(search_one, rolled, block, warmup=2, clock=clock).samples_ms)
    return {name: Latency(np.concatenate(parts)) for name, parts in samples.items()}


def _cycle(queries: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    while True:
        for row in range(len(queries)):
            yield queries[row : row + 1]


@contextmanager
def one_thread(set_threads: Callable[[int], None], get_threads: Callable[[], int]) -> Iterator[None]:
    """Run the block with one thread of a library and give it its former number back."""
    before = get_threads()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)
