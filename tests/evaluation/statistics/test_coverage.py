"""A few simulated experiments with known truth; `python -m tests.benchmarks.statistics` makes a thousand of each."""

import pytest

from evaluation.statistics.outcomes import Queries
from tests.benchmarks import statistics

NUM = 100


def test_intervals_over_articles_hold_the_truth_and_over_queries_they_do_not(monkeypatch):
    # 95 of 100 and 7 (three standard errors) fewer. Over queries it is about 70: they are 2.5 times too narrow.
    assert min(statistics.covered(NUM, num_resamples=300)) >= 0.88
    drawn = statistics.experiment
    monkeypatch.setattr(
        statistics, "experiment", lambda *given: (rows := drawn(*given)[0], Queries.independent(len(rows["a"])))
    )
    assert max(statistics.covered(NUM // 2, num_resamples=100)) <= 0.85


@pytest.mark.parametrize(("ahead", "least", "most"), [(0.0, 0.0, 0.08), (statistics.AHEAD, 0.85, 1.0)])
def test_a_variant_is_ready_when_it_is_ahead_and_not_when_it_is_equal(ahead, least, most):
    assert least <= statistics.ready(NUM, {"one": statistics.BASELINES["ridge"] + ahead}) <= most
