"""Charts as shapes and labels without a library: lines with rules and marks, and stacked bars.

Here is the geometry; the markup is the macro `chart` of the templates, which escapes every text. Colours are CSS
classes (`c0` to `c7`), so a page decides light and dark. A chart is 460 units wide: drawn at 340 pixels on a phone its
14-unit text is still 10 pixels high.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

WIDTH, HEIGHT = 460, 280
RIGHT, TOP, BOTTOM = 18, 28, 42
LETTER = 7.7  # units that a letter takes at the widest text size
NUM_COLOURS = 8
MANY_POINTS = 15  # above this a line gets no dots

Point = tuple[float, float]


class Series(NamedTuple):
    """One line: x ascending; points that are not finite are left out."""

    name: str
    colour: int
    points: Sequence[Point]
    dashed: bool = False


class Guide(NamedTuple):
    """A labelled straight line across the chart: a threshold."""

    value: float
    label: str
    vertical: bool = False


class Mark(NamedTuple):
    """A cross at a point, with what happened there."""

    x: float
    y: float
    label: str


class Axis(NamedTuple):
    """A title, how a tick is written, and whether only whole numbers are ticks."""

    title: str
    tick: Callable[[float], str]
    from_zero: bool = False
    whole: bool = False


class Shape(NamedTuple):
    """A path with its CSS class and what a pointer over it says."""

    css: str
    path: str
    title: str = ""


class Label(NamedTuple):
    """A text at a place."""

    css: str
    x: float
    y: float
    text: str
    anchor: str


@dataclass(slots=True)
class Chart:
    """What is drawn, in order."""

    title: str
    height: float = HEIGHT
    shapes: list[Shape] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def draw(self, css: str, path: str, title: str = "") -> None:
        """Add a shape."""
        self.shapes.append(Shape(css, path, title))

    def write(self, css: str, x: float, y: float, text: str, anchor: str = "middle") -> None:
        """Add a text, shortened to the room that it has."""
        room = {"start": WIDTH - x, "end": x, "middle": 2 * min(x, WIDTH - x)}[anchor] / LETTER
        text = text if len(text) <= room else text[: max(int(room) - 1, 0)] + "…"
        self.labels.append(Label(css, round(x, 1), round(y, 1), text, anchor))


@dataclass(frozen=True, slots=True)
class _Scale:
    """From data to drawing units."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start), 1)


def ticks(low: float, high: float, about: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]; whole ones on demand."""
    assert high > low
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def short(value: float) -> str:
    """A tick of a count: `20k`, `1.5M`, `0.2`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def percent(value: float) -> str:
    """A tick of a share."""
    return f"{100 * value:g}"


def line_chart(
    title: str, series: Sequence[Series], *, x: Axis, y: Axis, guides: Sequence[Guide] = (), marks: Sequence[Mark] = ()
) -> Chart | None:
    """Lines with thresholds and crosses; None when there is no finite point at all."""
    finite = [one._replace(points=[point for point in one.points if all(map(math.isfinite, point))]) for one in series]
    drawn = [one for one in finite if one.points]
    if not drawn:
        return None
    x_values = [point[0] for one in drawn for point in one.points] + [g.value for g in guides if g.vertical]
    y_values = [point[1] for one in drawn for point in one.points] + [g.value for g in guides if not g.vertical]
    y_scale = _Scale(*_range(y_values, y.from_zero, headroom=0.06), HEIGHT - BOTTOM, TOP)
    left = 14 + LETTER * max(len(y.tick(value)) for value in ticks(y_scale.low, y_scale.high, whole=y.whole))
    x_scale = _Scale(*_range(x_values, x.from_zero, headroom=0.0), left, WIDTH - RIGHT)
    chart = Chart(title)
    _axes(chart, x, y, x_scale, y_scale)
    for one in drawn:
        _line(chart, one, x_scale, y_scale)
    _guides(chart, guides, x_scale, y_scale)
    for mark in marks:
        chart.draw("mark", f"M{x_scale(mark.x) - 6:.1f},{y_scale(mark.y) - 6:.1f}l12,12m0,-12l-12,12", mark.label)
    return chart


def bar_chart(
    title: str, bars: Sequence[tuple[str, Sequence[tuple[str, float]]]], order: Sequence[str]
) -> Chart | None:
    """Horizontal stacked bars in seconds; a part's colour is its place in `order`. None when no bar has seconds."""
    longest = max((sum(value for _, value in parts) for _, parts in bars), default=0.0)
    if longest <= 0.0:
        return None
    left = min(170.0, 16 + LETTER * max(len(label) for label, _ in bars))
    top, bar_height, gap = 6, 22, 10
    bottom = top + len(bars) * (bar_height + gap)
    scale = _Scale(0.0, longest * 1.02, left, WIDTH - RIGHT)
    chart = Chart(title, bottom + BOTTOM - 4)
    for value in ticks(0.0, longest * 1.02):
        chart.draw("grid", f"M{scale(value)},{top}V{bottom}")
        chart.write("tick", scale(value), bottom + 15, short(value))
    for row, (label, pieces) in enumerate(bars):
        y, at = top + row * (bar_height + gap), 0.0
        chart.write("name", left - 8, y + bar_height / 2 + 4, label, "end")
        for name, value in pieces:
            box = f"M{scale(at)},{y}H{scale(at + value)}v{bar_height}H{scale(at)}z"
            chart.draw(f"fill c{order.index(name) % NUM_COLOURS}", box, f"{label}: {name} {value:.1f} s")
            at += value
    chart.write("axis", (left + WIDTH - RIGHT) / 2, bottom + 32, "seconds")
    return chart


def _range(values: Sequence[float], from_zero: bool, headroom: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if from_zero:
        low = min(low, 0.0)
    if high <= low:
        return (low - 0.5, high + 0.5) if not from_zero else (low, low + 1.0)
    pad = headroom * (high - low)
    return (low if from_zero else low - pad, high + pad)


def _axes(chart: Chart, x: Axis, y: Axis, x_scale: _Scale, y_scale: _Scale) -> None:
    left, right, base = x_scale.start, WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in ticks(y_scale.low, y_scale.high, whole=y.whole):
        chart.draw("grid", f"M{left:.1f},{y_scale(value)}H{right}")
        chart.write("tick", left - 7, y_scale(value) + 4, y.tick(value), "end")
    for value in ticks(x_scale.low, x_scale.high, whole=x.whole):
        chart.write("tick", x_scale(value), base + 16, x.tick(value))
    chart.draw("base", f"M{left:.1f},{base}H{right}")
    chart.write("axis", (left + right) / 2, HEIGHT - 6, x.title)
    # Above the plot and level: turned text beside the ticks collides with them on a phone.
    chart.write("axis", 4, 14, y.title, "start")


def _line(chart: Chart, one: Series, x_scale: _Scale, y_scale: _Scale) -> None:
    path = "M" + " ".join(f"{x_scale(px)},{y_scale(py)}" for px, py in one.points)
    chart.draw(f"line c{one.colour}{' dashed' if one.dashed else ''}", path, one.name)
    if len(one.points) <= MANY_POINTS:
        for px, py in one.points:
            dot = f"M{x_scale(px) - 3:.1f},{y_scale(py)}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0"
            chart.draw(f"dot c{one.colour}", dot, f"{one.name}: {px:g}, {py:.4g}")


def _guides(chart: Chart, guides: Sequence[Guide], x_scale: _Scale, y_scale: _Scale) -> None:
    free = 0.0  # labels of close guides go below each other
    for one in sorted(guides, key=lambda guide: -guide.value):
        if one.vertical:
            place, turn = x_scale(one.value), -1 if x_scale(one.value) > WIDTH / 2 else 1
            chart.draw("guide", f"M{place},{TOP}V{HEIGHT - BOTTOM}")
            chart.write("guide-label", place + 5 * turn, TOP + 12, one.label, "end" if turn < 0 else "start")
            continue
        chart.draw("guide", f"M{x_scale.start:.1f},{y_scale(one.value)}H{WIDTH - RIGHT}")
        free = max(y_scale(one.value) - 5, free)
        chart.write("guide-label", x_scale.start + 5, free, one.label, "start")
        free += 13
