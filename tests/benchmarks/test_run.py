"""The benchmark runner reads what the files print and holds ratios against limits."""

from tests.benchmarks.run import met, parse


def test_objects_printed_on_lines_or_indented_are_read_one_after_the_other():
    assert parse('{"a": 1}\n{\n "b": {"c": 2}\n}\nwords\n') == [{"a": 1}, {"b": {"c": 2}}]


def test_a_ratio_keeps_its_limit_in_its_direction_and_nan_never_does():
    assert met({"ratio": 1.2, "limit": 1.5, "better": "lower"})
    assert not met({"ratio": 1.2, "limit": 1.5, "better": "higher"})
    assert not met({"ratio": float("nan"), "limit": 1.5, "better": "lower"})
