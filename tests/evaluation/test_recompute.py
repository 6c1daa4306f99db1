"""Every figure of a finished run follows from the per-query arrays in its folder."""

import pytest

from evaluation.measures.latency import Latency
from evaluation.measures.metrics import EXCLUDE_CONTEXT, summarise
from evaluation.queries import load_queries
from evaluation.report.table import ComparisonTable
from evaluation.results import load_all_arrays, load_results
from evaluation.statistics.outcomes import Outcomes
from evaluation.statistics.resampling import intervals
from evaluation.statistics.significance import compare_all


@pytest.fixture(scope="module")
def results(run_folder):
    return load_results(run_folder)


@pytest.fixture(scope="module")
def arrays(run_folder, results):
    return load_all_arrays(run_folder, results["rows"])


@pytest.fixture(scope="module")
def queries(run_folder):
    return load_queries(run_folder).known


def evaluated(results, arrays):
    return [(row, arrays[row["variant"]]) for row in results["rows"] if row["variant"] in arrays]


def test_all_rows_but_the_pruned_one_have_arrays(results, arrays):
    assert {row["variant"] for row in results["rows"]} - set(arrays) == {"mamba_xl"}


def test_every_mean_follows_from_the_ranks(results, arrays):
    for row, kept in evaluated(results, arrays):
        for name, value in summarise(kept["ranks"], kept["ranks_pool"], kept["cosine"]).items():
            assert row[name] == pytest.approx(value), (row["variant"], name)
        without = summarise(kept["ranks_exclude_context"], kept["ranks_pool_exclude_context"], kept["cosine"])
        for name in set(without) - {"cosine"}:
            assert row[EXCLUDE_CONTEXT + name] == pytest.approx(without[name])
        assert row["n_queries"] == len(kept["ranks"])


def test_every_interval_follows_from_the_ranks(results, arrays, queries):
    for row, kept in evaluated(results, arrays):
        for name, bounds in intervals(Outcomes.of(kept), queries, num_resamples=200).items():
            assert row["ci"][name] == pytest.approx(bounds)


def test_every_latency_follows_from_the_samples(results, arrays):
    for row, kept in evaluated(results, arrays):
        for name, value in Latency(kept["latency_ms"].astype(float)).metrics().items():
            assert row[name] == pytest.approx(value, rel=1e-6)


def test_every_pair_follows_from_the_ranks(results, arrays, queries):
    names = dict.fromkeys(name for pair in results["pairs"] for name in (pair["a"], pair["b"]))
    outcomes = {name: Outcomes.of(arrays[name]) for name in names}
    again = [pair.to_dict() for pair in compare_all(outcomes, queries, num_resamples=200)]
    for kept, pair in zip(results["pairs"], again, strict=True):
        assert (kept["a"], kept["b"], kept["better"]) == (pair["a"], pair["b"], pair["better"])
        for name, found in pair["metrics"].items():
            assert kept["metrics"][name]["difference"] == pytest.approx(found["difference"])
            assert kept["metrics"][name]["p_holm"] == found["p_holm"]
            assert kept["metrics"][name]["ci"] == pytest.approx(list(found["ci"]))


def test_the_tables_shares_are_those_of_the_ranks(results, arrays):
    table = ComparisonTable.from_results(results).markdown()
    for row, kept in evaluated(results, arrays):
        share = ((kept["ranks"] >= 1) & (kept["ranks"] <= 5)).mean()
        line = next(line for line in table.splitlines() if line.startswith(f"| {row['variant']} "))
        assert f" {100 * share:.1f} (" in line
