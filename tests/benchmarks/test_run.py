"""The benchmark runner reads what the files print and holds ratios against limits."""

import pytest

from tests.benchmarks.run import met, parse, words


def test_objects_printed_on_lines_or_indented_are_read_one_after_the_other():
    assert parse('{"a": 1}\n{\n "b": {"c": 2}\n}\nwords\n') == [{"a": 1}, {"b": {"c": 2}}]


@pytest.mark.parametrize(
    ("better", "limit", "text", "kept"),
    [
        ("lower", 1.5, "<= 1.5", [True, True, False]),
        ("higher", 1.5, ">= 1.5", [False, True, True]),
        ("between", [1.3, 1.7], "1.3 to 1.7", [False, True, False]),
    ],
)
def test_a_ratio_keeps_its_limit_in_its_direction_and_nan_never_does(better, limit, text, kept):
    results = [{"ratio": ratio, "limit": limit, "better": better} for ratio in (1.2, 1.5, 1.8, float("nan"))]
    assert [met(result) for result in results] == [*kept, False]
    assert words(results[0]) == text
