"""Every figure of a finished run follows from the per-query arrays in its folder."""

import pytest

from evaluation.measures.latency import Latency
from evaluation.measures.metrics import EXACT, split_prefix
from evaluation.queries import load_queries
from evaluation.report.table import ComparisonTable
from evaluation.results import load_all_arrays, load_results
from evaluation.statistics.outcomes import Outcomes, mean
from evaluation.statistics.resampling import intervals
from evaluation.statistics.significance import compare_all


@pytest.fixture(scope="module")
def results(run_folder):
    return load_results(run_folder)


@pytest.fixture(scope="module")
def arrays(run_folder, results):
    return load_all_arrays(run_folder, results["rows"])


@pytest.fixture(scope="module")
def evaluated(results, arrays):
    """(row, its arrays, its outcomes)."""
    kept = [(row, arrays[row["variant"]]) for row in results["rows"] if row["variant"] in arrays]
    return [(row, found, Outcomes.of(found)) for row, found in kept]


@pytest.fixture(scope="module")
def queries(run_folder):
    return load_queries(run_folder).known


def test_all_rows_but_the_pruned_one_have_arrays(results, arrays):
    assert {row["variant"] for row in results["rows"]} - set(arrays) == {"mamba_xl"}


def test_every_mean_follows_from_the_ranks(evaluated, queries):
    for row, kept, outcomes in evaluated:
        assert {"r@5", "novel.r@5", "exclude_context.r@5", "copied.r@5"} <= set(outcomes.names)
        for name in outcomes.names:
            assert row[name] == pytest.approx(mean(name, outcomes, queries)), (row["variant"], name)
        exact = ((kept["ranks_exact"] >= 1) & (kept["ranks_exact"] <= 5)).mean()
        assert row[EXACT + "r@5"] == pytest.approx(exact)
        assert row["n_queries"] == len(kept["ranks"])


def test_every_interval_follows_from_the_ranks(evaluated, queries):
    for row, _, outcomes in evaluated:
        for name, bounds in intervals(outcomes, queries, num_resamples=200).items():
            assert row["ci"][name] == pytest.approx(bounds), split_prefix(name)


def test_every_latency_follows_from_the_samples(evaluated):
    for row, kept, _ in evaluated:
        for name, value in Latency(kept["latency_ms"].astype(float)).metrics().items():
            assert row[name] == pytest.approx(value, rel=1e-6)


def test_every_pair_follows_from_the_ranks(results, arrays, queries):
    names = dict.fromkeys(name for pair in results["pairs"] for name in (pair["a"], pair["b"]))
    again = compare_all({name: Outcomes.of(arrays[name]) for name in names}, queries, num_resamples=200)
    for kept, pair in zip(results["pairs"], (one.to_dict() for one in again), strict=True):
        assert (kept["a"], kept["b"], kept["better"]) == (pair["a"], pair["b"], pair["better"])
        for name, found in pair["metrics"].items():
            assert kept["metrics"][name]["difference"] == pytest.approx(found["difference"])
            assert kept["metrics"][name]["p_holm"] == found["p_holm"]
            assert kept["metrics"][name]["ci"] == pytest.approx(list(found["ci"]))


def test_the_tables_shares_are_those_of_the_ranks(results, evaluated, queries):
    table = ComparisonTable.from_results(results).markdown()
    for row, kept, _ in evaluated:
        hit = (kept["ranks"] >= 1) & (kept["ranks"] <= 5)
        line = next(line for line in table.splitlines() if line.startswith(f"| {row['variant']} "))
        cells = [cell.strip() for cell in line.split("|")]
        assert cells[2].startswith(f"{100 * hit[queries.novel].mean():.1f} (")
        assert cells[3] == f"{100 * hit.mean():.1f}"
