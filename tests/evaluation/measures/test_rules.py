"""Rules on metrics: read from text, held against numbers worked out by hand."""

import math

import pytest

from evaluation.measures.rules import check_rule, parse_rule

NAN = math.nan
BASELINES = {"last_vector": {"r@5": 0.1, "p95_ms": 0.5}, "context_mean": {"r@5": NAN}}


@pytest.mark.parametrize(
    ("text", "metric", "op", "factor", "baseline"),
    [
        ("r@5 >= 0.35", "r@5", ">=", 0.35, None),
        ("  p95_ms<=2.0 ", "p95_ms", "<=", 2.0, None),
        ("r@5 >= 1.2 * baseline.last_vector", "r@5", ">=", 1.2, "last_vector"),
        ("r@5 >= baseline.amn", "r@5", ">=", 1.0, "amn"),
        ("contain@50 >= 1e-3", "contain@50", ">=", 0.001, None),
        ("exclude_context.r@5 >= 0.1", "exclude_context.r@5", ">=", 0.1, None),
    ],
)
def test_a_rule_is_read_from_text(text: str, metric: str, op: str, factor: float, baseline: str | None) -> None:
    rule = parse_rule(text)
    assert (rule.text, rule.metric, rule.op, rule.factor, rule.baseline) == (
        text.strip(),
        metric,
        op,
        factor,
        baseline,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "r@5",
        "r@5 > 0.35",
        "r@5 == 0.35",
        "r@5 >=",
        "r@5 >= x",
        "r@5 >= 1e",
        "r@5 >= nan",
        "r@5 >= 35%",
        "r@5 >= 1.2 baseline.amn",
        "r@5 >= 1.2 *",
        "r@5 >= 1.2 * 3",
        "r@5 >= 1.2 * last_vector",
        "R@5 >= 0.2",
        "r@5 >= 0.2 and r@1 >= 0.1",
        "0.2 <= r@5",
    ],
)
def test_text_that_is_no_rule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected 'metric >= number' .* e\.g\. 'r@5 >= 1\.2 \* baseline"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("text", "value", "passed"),
    [
        ("r@5 >= 0.35", 0.35, True),
        ("r@5 >= 0.35", 0.3499, False),
        ("r@5 <= 0.35", 0.35, True),
        ("r@5 <= 0.35", 0.3501, False),
        ("r@5 >= 0.35", NAN, False),
        ("r@5 <= 0.35", NAN, False),
        ("r@5 >= 0.35", None, False),
        ("r@5 <= 0.35", None, False),
        ("r@5 >= 2 * baseline.last_vector", 0.2, True),
        ("r@5 >= 2 * baseline.last_vector", 0.19, False),
        ("r@5 >= 0.5 * baseline.context_mean", 1.0, False),
        ("r@5 <= baseline.context_mean", 0.0, False),
        ("r@5 >= baseline.unmeasured", 1.0, False),
    ],
)
def test_a_rule_holds_or_not_and_never_for_want_of_evidence(text: str, value: float | None, passed: bool) -> None:
    assert check_rule(parse_rule(text), {"r@5": value}, BASELINES).passed is passed


def test_a_relative_limit_is_the_factor_times_the_baseline() -> None:
    assert parse_rule("r@5 >= 1.5 * baseline.last_vector").limit(BASELINES) == pytest.approx(0.15)
    assert parse_rule("p95_ms <= baseline.last_vector").limit(BASELINES) == 0.5
    assert math.isnan(parse_rule("r@1 >= baseline.last_vector").limit(BASELINES))
    assert math.isnan(parse_rule("r@5 >= baseline.amn").limit(BASELINES))


def test_a_metric_that_was_not_measured_is_missing() -> None:
    check = check_rule(parse_rule("r@5 >= 0.0"), {"r@1": 1.0}, {})
    assert (check.value, check.passed) == (None, False)
    assert check.describe() == "r@5 missing (limit >= 0, failed)"


def test_a_check_says_value_limit_and_outcome() -> None:
    rule = parse_rule("r@5 >= 1.2 * baseline.last_vector")
    assert check_rule(rule, {"r@5": 0.08123}, BASELINES).describe() == "r@5 0.08123 (limit >= 0.12, failed)"
    assert check_rule(parse_rule("p95_ms <= 2"), {"p95_ms": 1.5}, {}).describe() == "p95_ms 1.5 (limit <= 2, passed)"
