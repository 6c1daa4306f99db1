"""Percentiles, their intervals, and a planted delay."""

import math
import time

import numpy as np
import pytest

from evaluation.measures.latency import (
    Latency,
    measure,
    measure_interleaved,
    one_thread,
    percentile,
    percentile_interval,
)

QUERIES = np.zeros((3, 4), np.float32)


def wait(seconds):
    """Spin, and return the milliseconds spent: sleeping would add the kernel's timer slack to the planted delay."""
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        pass
    return 1e3 * (time.perf_counter() - start)


def test_a_planted_delay_of_five_milliseconds_is_found_within_five_per_cent():
    planted = []
    latency = measure(lambda query: planted.append(wait(0.005)), QUERIES, num_timed=40, warmup=2)
    # On a busy machine the spin itself takes longer; what was planted is what it took.
    assert latency.p50_ms == pytest.approx(percentile(np.asarray(planted[2:]), 0.5), rel=0.05)
    assert latency.p50_ms >= 5.0


def test_each_query_is_timed_alone_and_the_warm_up_is_not_timed():
    seen = []
    latency = measure(lambda query: seen.append(query.shape), QUERIES, num_timed=7, warmup=4)
    assert seen == [(1, 4)] * 11
    assert len(latency.samples_ms) == 7


def test_a_slow_start_is_left_to_the_warm_up():
    now_ns = [0]

    def search_one(query):
        now_ns[0] += 20_000_000 if now_ns[0] == 0 else 1_000_000

    latency = measure(search_one, QUERIES, num_timed=10, warmup=1, clock=lambda: now_ns[0])
    assert latency.samples_ms.tolist() == [1.0] * 10


def test_percentiles_are_observed_times():
    samples = np.arange(1.0, 101.0)
    latency = Latency(samples)
    assert (latency.p50_ms, latency.p95_ms, latency.p99_ms) == (50.0, 95.0, 99.0)


def test_without_samples_there_is_no_percentile():
    assert math.isnan(percentile(np.empty(0), 0.95))
    assert all(math.isnan(end) for end in percentile_interval(np.empty(0), 0.95))


def test_the_interval_of_a_median_of_ten_lies_between_the_second_and_the_ninth_sample():
    # Binomial(10, 1/2): 1 + 10 = 11 of 1,024 outcomes have at most one success (1 %), 56 at most two (5 %).
    assert percentile_interval(np.arange(1.0, 11.0), 0.50) == (2.0, 9.0)


def test_the_interval_of_a_percentile_covers_it_in_about_95_of_100_repetitions():
    rng = np.random.default_rng(0)
    truth = -math.log(0.05)  # 95th percentile of the exponential distribution
    covered = 0
    for _ in range(400):
        low, high = percentile_interval(rng.exponential(size=300), 0.95)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.995


def test_one_thread_is_given_back_even_after_an_error():
    threads = [4]

    def set_threads(number):
        threads[0] = number

    try:
        with one_thread(set_threads, lambda: threads[0]):
            inside = threads[0]
            raise RuntimeError
    except RuntimeError:
        pass
    assert (inside, threads[0]) == (1, 4)


def test_searchers_are_timed_in_turns_on_the_same_queries():
    log = []
    subjects = {
        name: (
            lambda name=name: log.append(f"prepare {name}"),
            lambda query, name=name: log.append((name, query[0, 0])),
        )
        for name in ("a", "b")
    }
    queries = np.arange(6, dtype=np.float32)[:, None]
    timed = measure_interleaved(subjects, queries, num_timed=4, block=2)
    assert {name: len(latency.samples_ms) for name, latency in timed.items()} == {"a": 4, "b": 4}
    assert [entry for entry in log if isinstance(entry, str)] == ["prepare a", "prepare b"] * 2
    assert [entry[1] for entry in log if entry[0] == "a"] == [entry[1] for entry in log if entry[0] == "b"]
