"""SVG that a browser can draw."""

from xml.etree import ElementTree

import pytest

from evaluation.report.charts import Axis, Guide, Mark, Series, bar_chart, legend, line_chart, percent, short, ticks

SVG = "{http://www.w3.org/2000/svg}"
PLAIN = Axis("x", short)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.18, 0.25, [0.18, 0.2, 0.22, 0.24]),
        (0, 3, [0, 1, 2, 3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, expected):
    assert ticks(low, high) == expected


def test_whole_ticks_never_have_fractions():
    assert ticks(0, 2, whole=True) == [0, 1, 2]


def test_counts_and_shares_are_written_short():
    assert [short(value) for value in (0.2, 12, 20_000, 1_500_000)] == ["0.2", "12", "20k", "1.5M"]
    assert percent(0.125) == "12.5"


def test_a_line_runs_from_the_left_bottom_to_the_right_top_of_the_plot():
    root = ElementTree.fromstring(
        line_chart("t", [Series("a", 0, [(0.0, 0.0), (1.0, 1.0)])], PLAIN, Axis("y", short, from_zero=True))
    )
    first, last = root.find(f"{SVG}polyline").get("points").split()
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in (first, last))
    assert x0 < x1
    assert y0 > y1, "SVG counts downwards"


def test_undefined_points_are_left_out_and_without_any_there_is_no_chart():
    nan = float("nan")
    assert line_chart("t", [Series("a", 0, [(0.0, nan)])], PLAIN, PLAIN) == ""
    assert "nan" not in line_chart("t", [Series("a", 0, [(0.0, nan), (1.0, 2.0)])], PLAIN, PLAIN)


def test_a_threshold_outside_the_data_is_still_in_the_picture():
    svg = line_chart("t", [Series("a", 0, [(0, 0.1), (1, 0.2)])], PLAIN, PLAIN, guides=[Guide(0.9, "r@5 >= 0.9")])
    guide = ElementTree.fromstring(svg).find(f"{SVG}line[@class='guide']")
    assert 0 < float(guide.get("y1")) < 280
    assert "r@5 &gt;= 0.9" in svg


def test_names_are_escaped_everywhere():
    evil = "<script>&"
    pieces = [
        line_chart(evil, [Series(evil, 0, [(0, 1), (1, 2)])], Axis(evil, short), PLAIN, marks=[Mark(0, 1, evil)]),
        bar_chart(evil, [(evil, [(evil, 2.0)])], [evil]),
        legend([(evil, 0, True)]),
    ]
    for piece in pieces:
        ElementTree.fromstring(piece)
        assert "<script>" not in piece


def test_bars_are_as_long_as_their_seconds():
    root = ElementTree.fromstring(bar_chart("t", [("a", [("x", 2.0), ("y", 6.0)])], ["x", "y"]))
    first, second = root.findall(f"{SVG}rect")
    assert float(second.get("width")) == pytest.approx(3 * float(first.get("width")), abs=0.05)
    assert float(second.get("x")) == pytest.approx(float(first.get("x")) + float(first.get("width")), abs=0.05)


def test_bars_without_seconds_are_no_chart():
    assert bar_chart("t", [], []) == bar_chart("t", [("a", [("x", 0.0)])], ["x"]) == ""
