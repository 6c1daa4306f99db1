"""JSON files and JSON lines: what is written comes back, and what a crash cut short does no harm."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.io import append_json_line, plain, read_json_lines, write_json, write_text


def test_json_comes_back_with_null_for_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    given = {"a": math.nan, "b": [math.inf, 1.5, (2, -math.inf)], 3: "three", "none": None, "yes": True}
    write_json(path, given)
    found = {"a": None, "b": [None, 1.5, [2, None]], "3": "three", "none": None, "yes": True}
    assert json.loads(path.read_text()) == plain(given) == found
    assert math.isnan(given["a"])


def test_a_whole_file_is_replaced_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "old")
    write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (None, []),
        ('{"a": 1}\n{"a": 2, "b"', [{"a": 1}]),
        ('{"a": 1}', [{"a": 1}]),
    ],
    ids=["no file", "a last line cut short", "a last line without its end"],
)
def test_lines_are_appended_in_order_after_what_is_whole(
    tmp_path: Path, before: str | None, found: list[dict[str, Any]]
) -> None:
    path = tmp_path / "x.jsonl"
    if before is not None:
        path.write_text(before)
    assert read_json_lines(path) == found
    records = [{"a": 3}, {"b": {"c": [1, 2]}}, {"text": "line\nbreak \u2028 \u00e9"}]
    for record in records:
        append_json_line(path, record)
    assert read_json_lines(path, ended=True) == [*found, *records]


@pytest.mark.parametrize(
    ("content", "ended", "message"),
    [
        ('{"a": 1}\n{"a": 2, "b"', True, ":2: expected a JSON object, got one that was cut short"),
        ('{"a": 1, "b"\n{"a": 2}\n', False, ":1: expected a JSON object, got one that was cut short"),
        ('{"a": 1}\n[2]\n', False, ":2: expected a JSON object, got another line"),
    ],
    ids=["the last line of an ended file", "a line before the last", "no object"],
)
def test_a_line_that_no_crash_left_so_is_named(tmp_path: Path, content: str, ended: bool, message: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        read_json_lines(tmp_path / "x.jsonl", ended=ended)
