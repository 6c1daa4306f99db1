"""Gate rules as text."""

import math

import pytest

from evaluation.rules import judge, parse


def passed(text, metrics, baselines=None):
    (judged,) = judge([parse(text)], metrics, baselines or {})
    return judged.passed


def test_a_rule_is_a_metric_a_direction_and_a_number():
    assert passed("r@5 >= 0.35", {"r@5": 0.35})
    assert not passed("r@5 >= 0.35", {"r@5": 0.3499})
    assert passed("p95_ms <= 2.0", {"p95_ms": 1.9})
    assert not passed("p95_ms <= 2.0", {"p95_ms": 2.1})


def test_a_limit_may_be_a_multiple_of_a_baseline():
    (judged,) = judge([parse("r@5 >= 1.2 * baseline.last_vector")], {"r@5": 0.13}, {"last_vector": {"r@5": 0.1}})
    assert judged.limit == pytest.approx(0.12)
    assert judged.passed
    assert passed("r@5>=baseline.amn", {"r@5": 0.1}, {"amn": {"r@5": 0.1}})


def test_nothing_passes_for_want_of_evidence():
    assert not passed("r@5 >= 0.0", {})
    assert not passed("p95_ms <= 2.0", {})
    assert not passed("eff@5 >= 0.0", {"eff@5": math.nan})
    assert not passed("r@5 >= baseline.amn", {"r@5": 0.5})


@pytest.mark.parametrize("text", ["r@5 > 0.3", "r@5 >=", "0.3 <= r@5", "", "r@5 >= x"])
def test_other_text_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="gate: expected 'metric >= number'"):
        parse(text)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="metric: expected one of cosine"):
        parse("recall >= 0.3")
