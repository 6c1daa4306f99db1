"""Figures as people read them."""

import pytest

from evaluation.measures.writing import write_gain, write_value


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (0.0213, "r@5", "+2.1"),
        (-0.0213, "novel.r@5", "-2.1"),
        (-0.0004, "exclude_context.r@5", "+0.0"),
        (0.0, "eff@5", "+0.0"),
        (-0.0213, "mrr@10", "-0.021"),
        (-0.0004, "novel.mrr@10", "+0.000"),
    ],
)
def test_a_gain_has_a_sign_and_one_that_rounds_to_nothing_no_minus(value, metric, shown):
    assert write_gain(value, metric) == shown


@pytest.mark.parametrize(
    ("metric", "shown"), [("r@5", "21.3"), ("novel.contain@50", "21.3"), ("mrr@10", "0.213"), ("cosine", "0.213")]
)
def test_a_share_is_written_in_per_cent_and_anything_else_is_not(metric, shown):
    assert write_value(0.2134, metric) == shown
