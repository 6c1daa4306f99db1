"""What `auto` picks and what it says about it."""

import numpy as np
import pytest

from evaluation.config import IndexConfig
from evaluation.index import auto as index_auto
from evaluation.index.build import build_index
from evaluation.measures.latency import Latency


@pytest.fixture(scope="module")
def clustered(unit):
    """2,000 rows around 40 centres in 32 dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 32))
    return unit(centres[rng.integers(40, size=2000)] + 0.6 * rng.standard_normal((2000, 32)))


def planted_times(monkeypatch, p95_by_kind):
    """Replace the clock: each kind takes the planted number of milliseconds."""
    monkeypatch.setattr(index_auto, "_quick_p95", lambda *_: float("inf"))
    monkeypatch.setattr(
        index_auto,
        "_timed",
        lambda candidates, sample: {one.label: Latency(np.full(5, p95_by_kind[one.config.kind])) for one in candidates},
    )


def test_a_flat_scan_that_is_fast_enough_is_taken_without_building_anything_else(clustered, monkeypatch):
    monkeypatch.setattr(index_auto, "_quick_p95", lambda *_: 0.1)
    description = build_index(clustered, IndexConfig()).describe()
    assert description["kind"] == "flat"
    assert [one["index"] for one in description["tried"]] == ["flat"]


def test_the_fastest_with_enough_fidelity_is_taken_and_everything_tried_is_listed(clustered, monkeypatch):
    planted_times(monkeypatch, {"flat": 9.0, "ivf_flat": 3.0, "ivf_sq8": 2.0, "ivf_pq": 1.0})
    description = build_index(clustered, IndexConfig()).describe()
    assert (description["kind"], description["chosen_by"]) == ("ivf_pq", "auto")
    assert description["fidelity"] >= 0.97
    assert {one["index"].split()[0] for one in description["tried"]} == {"flat", "ivf_flat", "ivf_sq8", "ivf_pq"}
    for one in description["tried"]:
        assert min(one.get("fidelity", 1.0), one.get("fidelity_disturbed", 1.0)) >= 0.97


def test_the_chosen_index_searches_with_the_breadth_that_was_measured(clustered, monkeypatch):
    planted_times(monkeypatch, {"flat": 9.0, "ivf_flat": 1.0, "ivf_sq8": 2.0, "ivf_pq": 3.0})
    index = build_index(clustered, IndexConfig(min_fidelity=0.9))
    import faiss

    assert faiss.extract_index_ivf(index.faiss_index).nprobe == index.describe()["nprobe"] < 32


def test_of_several_breadths_of_one_index_the_chosen_one_is_set_in_the_end(clustered, monkeypatch):
    planted_times(monkeypatch, {"flat": 9.0, "ivf_flat": 8.0, "ivf_sq8": 8.0, "ivf_pq": 1.0})
    index = build_index(clustered, IndexConfig(min_fidelity=0.9))
    tried = [one["index"] for one in index.describe()["tried"] if one["index"].startswith("ivf_pq")]
    assert len(tried) > 1
    assert index.faiss_index.k_factor == index.describe()["k_factor"] == int(tried[0].split()[-1])


def test_a_less_exact_index_must_pay_to_be_taken(clustered, monkeypatch):
    planted_times(monkeypatch, {"flat": 1.0, "ivf_flat": 0.95, "ivf_sq8": 0.95, "ivf_pq": 0.95})
    assert build_index(clustered, IndexConfig()).describe()["kind"] == "flat"


def test_an_index_without_enough_fidelity_is_refused_and_named(clustered, monkeypatch):
    planted_times(monkeypatch, {"flat": 9.0, "ivf_flat": 3.0, "ivf_sq8": 0.1, "ivf_pq": 0.1})
    description = build_index(clustered, IndexConfig(min_fidelity=1.0)).describe()
    assert description["kind"] == "ivf_flat"
    refused = {one["index"] for one in description["tried"] if "refused" in one}
    assert refused == {"ivf_sq8", "ivf_pq"}


def test_product_codes_are_not_tried_when_the_dimension_does_not_allow_them(clustered, unit, monkeypatch):
    planted_times(monkeypatch, {"flat": 9.0, "ivf_flat": 3.0, "ivf_sq8": 2.0})
    tried = build_index(unit(clustered[:, :30]), IndexConfig()).describe()["tried"]
    assert not [one for one in tried if one["index"].startswith("ivf_pq")]


def test_real_times_are_measured_for_every_candidate(clustered, monkeypatch):
    monkeypatch.setattr(index_auto, "FLAT_IS_FAST_ENOUGH_MS", 0.0)
    tried = build_index(clustered, IndexConfig()).describe()["tried"]
    assert len(tried) >= 4
    assert all(one["p95_cpu_ms"] > 0 for one in tried if "p95_cpu_ms" in one)


def test_an_index_that_finds_rows_but_not_predictions_is_not_wide_enough(clustered):
    """Rows lie inside their cells and are found with few probes; disturbed rows need more."""
    narrow = build_index(clustered, IndexConfig(kind="ivf_flat", nprobe=6)).describe()
    assert narrow["fidelity"] > narrow["fidelity_disturbed"] + 0.02


def test_a_busy_machine_does_not_choose(clustered, monkeypatch):
    """Time that the thread waits is not counted: the clock is the thread's own, here one millisecond a look."""
    looks = iter(range(0, 1_000_000_000, 1_000_000))
    monkeypatch.setattr("time.thread_time_ns", lambda: next(looks))
    flat = index_auto.build_kind(clustered, IndexConfig(kind="flat"))
    candidate = index_auto.Candidate(flat, flat.config, 1.0, 1.0)
    assert index_auto._timed_alone(candidate, clustered[:5], 5).p95_ms == 1.0
