"""Figures as people read them."""

import pytest

from evaluation.measures.writing import gain_bounds, gain_with_interval, value_with_interval, write_gain, write_value

NAN = float("nan")


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


@pytest.mark.parametrize(
    ("ci", "value", "gain"),
    [
        ((0.1, 0.2), "15.0 (10.0-20.0)", "+15.0 (+10.0 to +20.0)"),
        ((NAN, NAN), "15.0 (no interval)", "+15.0 (no interval)"),  # too few articles for one
    ],
)
def test_an_interval_stands_in_brackets_and_one_that_is_not_known_is_said_to_be_none(ci, value, gain):
    assert value_with_interval(0.15, ci, "r@5") == value
    assert gain_with_interval(0.15, ci, "r@5") == gain
    assert gain_bounds(ci, "r@5") in gain
