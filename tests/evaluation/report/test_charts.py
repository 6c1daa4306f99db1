"""Where charts draw what."""

import re

import pytest

from evaluation.report.charts import WIDTH, Axis, Guide, Mark, Series, bar_chart, line_chart, percent, short, ticks

X, Y = Axis("x", short), Axis("y", short, from_zero=True)
RISING = Series("a", 0, [(0.0, 0.0), (1.0, 1.0)])


def drawn(chart, css):
    """The numbers of every path of a class."""
    found = [shape.path for shape in chart.shapes if shape.css.split()[0] == css]
    return [[float(number) for number in re.findall(r"-?\d+\.?\d*", path)] for path in found]


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
    ((x0, y0, x1, y1),) = drawn(line_chart("t", [RISING], x=X, y=Y), "line")
    assert x0 < x1
    assert y0 > y1, "SVG counts downwards"


def test_undefined_points_are_left_out_and_without_any_there_is_no_chart():
    nan = float("nan")
    assert line_chart("t", [Series("a", 0, [(0.0, nan)])], x=X, y=Y) is None
    chart = line_chart("t", [Series("a", 0, [(0.0, nan), (1.0, 2.0)])], x=X, y=Y)
    assert len(drawn(chart, "dot")) == 1


def test_a_threshold_outside_the_data_is_still_in_the_picture():
    chart = line_chart("t", [RISING], x=X, y=Y, guides=[Guide(1.9, "r@5 >= 1.9")])
    ((_, y, _),) = drawn(chart, "guide")
    assert 0 < y < chart.height


def test_labels_of_close_thresholds_stand_below_each_other():
    chart = line_chart("t", [RISING], x=X, y=Y, guides=[Guide(0.500, "a"), Guide(0.501, "b")])
    places = [label.y for label in chart.labels if label.css == "guide-label"]
    assert abs(places[0] - places[1]) >= 12


def test_no_label_is_longer_than_the_room_it_has():
    long = "mamba_with_a_name_that_is_much_longer_than_any_chart_is_wide_and_then_some"
    charts = [
        line_chart("t", [RISING], x=X, y=Axis("y", lambda value: f"{value:.6f}"), guides=[Guide(0.5, long)]),
        bar_chart("t", [(long, [("x", 2.0)])], ["x"]),
    ]
    for label in (label for chart in charts for label in chart.labels):
        width = 6.5 * len(label.text)
        left = label.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor]
        assert 0 <= left <= left + width <= WIDTH, label
    shortened = {label.css for chart in charts for label in chart.labels if label.text.endswith("…")}
    assert shortened == {"guide-label", "name"}, "never a number"


def test_a_mark_is_a_cross_at_its_point_and_says_what_happened():
    chart = line_chart("t", [RISING], x=X, y=Y, marks=[Mark(1.0, 1.0, "pruned")])
    (cross,) = [shape for shape in chart.shapes if shape.css == "mark"]
    ((*_, x1, y1),) = drawn(chart, "line")
    assert cross.title == "pruned"
    assert cross.path.startswith(f"M{x1 - 6:.1f},{y1 - 6:.1f}")


def test_bars_are_as_long_as_their_seconds_and_follow_each_other():
    chart = bar_chart("t", [("a", [("x", 2.0), ("y", 6.0)])], ["x", "y"])
    (start, _, middle, *_), (start2, _, end, *_) = drawn(chart, "fill")
    assert start2 == middle
    assert end - middle == pytest.approx(3 * (middle - start), abs=0.3)


def test_bars_without_seconds_are_no_chart():
    assert bar_chart("t", [], []) is None
    assert bar_chart("t", [("a", [("x", 0.0)])], ["x"]) is None
