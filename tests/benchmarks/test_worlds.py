"""What a world must show: said in one line each where it did not."""

import pytest

from tests.benchmarks.worlds import MAMBA, missed


def found(oracle: float, verdict: str = "TIE", **rows: float) -> dict:
    """Results of rows with these shares of novel R@5, which here is R@5 over all queries, too."""
    listed = [{"variant": name, "novel.r@5": share, "r@5": share, "verdict": verdict} for name, share in rows.items()]
    return {"oracle": {"novel.r@5": oracle}, "results": {"rows": listed}}


@pytest.mark.parametrize(("variants", "ridge", "lines"), [(0.45, 0.2, 0), (0.40, 0.2, 4), (0.45, 0.4, 1)])
def test_a_switch_must_be_found_by_variants_and_not_by_ridge(variants, ridge, lines):
    assert len(missed("switch", found(0.5, **dict.fromkeys(MAMBA, variants), ridge=ridge))) == lines


@pytest.mark.parametrize(("verdict", "best", "lines"), [("TIE", 0.6, 0), ("PRODUCTION READY", 0.6, 1), ("TIE", 0.4, 1)])
def test_of_boilerplate_the_look_up_must_find_most_and_nobody_is_ready(verdict, best, lines):
    results = found(0.0, nearest_context=best)
    results["results"]["rows"] += found(0.0, verdict, mamba_s=0.5)["results"]["rows"]
    assert len(missed("boilerplate", results)) == lines


def test_a_miss_says_what_was_expected_and_found():
    assert missed("recall", found(1.0, mamba_sandwich=0.79, mamba_s=0.1)) == [
        "recall: expected mamba_sandwich to find >= 0.8 of what the oracle finds, got 0.790"
    ]
