"""Charts as inline SVG without a library: lines with rules and marks, and stacked bars.

Colours are CSS classes (`c0` to `c7`), so a page decides light and dark. Every text is escaped. A chart is 460 units
wide: drawn at 340 pixels on a phone its 12-unit text is still 9 pixels high.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 28, 42
NUM_COLOURS = 8
MANY_POINTS = 15  # above this a line gets no dots

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: x ascending; points that are not finite are left out."""

    name: str
    colour: int
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Guide:
    """A labelled straight line across the chart: a threshold."""

    value: float
    label: str
    vertical: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A cross at a point, with what happened there."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A title and how a tick is written."""

    title: str
    tick: Callable[[float], str]
    from_zero: bool = False
    whole: bool = False
    """Only whole numbers are ticks, e.g. epochs."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """From data to drawing units."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


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
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    guides: Sequence[Guide] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """An SVG of lines; an empty string when there is no finite point at all."""
    drawn = [Series(one.name, one.colour, _finite(one.points), one.dashed) for one in series]
    drawn = [one for one in drawn if one.points]
    if not drawn:
        return ""
    x_values = [point[0] for one in drawn for point in one.points] + [g.value for g in guides if g.vertical]
    y_values = [point[1] for one in drawn for point in one.points] + [g.value for g in guides if not g.vertical]
    x_scale = _Scale(*_range(x_values, x.from_zero, headroom=0.0), LEFT, WIDTH - RIGHT)
    y_scale = _Scale(*_range(y_values, y.from_zero, headroom=0.06), HEIGHT - BOTTOM, TOP)
    parts = [
        *_axes(x, y, x_scale, y_scale),
        *(_line(one, x_scale, y_scale) for one in drawn),
        *(_guide(one, x_scale, y_scale) for one in guides),
        *(_mark(one, x_scale, y_scale) for one in marks),
    ]
    return _svg(title, HEIGHT, parts)


def bar_chart(title: str, bars: Sequence[tuple[str, Sequence[tuple[str, float]]]], order: Sequence[str]) -> str:
    """Horizontal stacked bars in seconds; a part's colour is its place in `order`."""
    longest = max((sum(value for _, value in parts) for _, parts in bars), default=0.0)
    if longest <= 0.0:
        return ""
    left, top_edge, bar_height, gap = 104, 6, 22, 10
    bottom = top_edge + len(bars) * (bar_height + gap)
    height = bottom + BOTTOM - 4
    scale = _Scale(0.0, longest * 1.02, left, WIDTH - RIGHT)
    parts = []
    for value in ticks(0.0, longest * 1.02):
        place = scale(value)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{top_edge}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{place:.1f}" y="{bottom + 15}" text-anchor="middle">{short(value)}</text>')
    for row, (label, pieces) in enumerate(bars):
        top = top_edge + row * (bar_height + gap)
        parts.append(_text("name", left - 8, top + bar_height / 2 + 4, label, "end"))
        at = 0.0
        for name, value in pieces:
            colour = order.index(name) % NUM_COLOURS
            width = scale(at + value) - scale(at)
            parts.append(
                f'<rect class="fill c{colour}" x="{scale(at):.2f}" y="{top}" width="{max(width, 0.0):.2f}" '
                f'height="{bar_height}"><title>{escape(label)}: {escape(name)} {value:.1f} s</title></rect>'
            )
            at += value
    parts.append(_text("axis", (left + WIDTH - RIGHT) / 2, bottom + 32, "seconds", "middle"))
    return _svg(title, height, parts)


def legend(entries: Sequence[tuple[str, int, bool]]) -> str:
    """Name, colour and whether dashed, as an HTML list."""
    items = "".join(
        f'<li><i class="swatch c{colour}{" dashed" if dashed else ""}"></i>{escape(name)}</li>'
        for name, colour, dashed in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]


def _range(values: Sequence[float], from_zero: bool, headroom: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if from_zero:
        low = min(low, 0.0)
    if high <= low:
        return (low - 0.5, high + 0.5) if not from_zero else (low, low + 1.0)
    pad = headroom * (high - low)
    return (low if from_zero else low - pad, high + pad)


def _axes(x: Axis, y: Axis, x_scale: _Scale, y_scale: _Scale) -> list[str]:
    parts = []
    for value in ticks(y_scale.low, y_scale.high, whole=y.whole):
        place = y_scale(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(_text("tick", LEFT - 7, place + 4, y.tick(value), "end"))
    for value in ticks(x_scale.low, x_scale.high, whole=x.whole):
        parts.append(_text("tick", x_scale(value), HEIGHT - BOTTOM + 16, x.tick(value), "middle"))
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(_text("axis", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x.title, "middle"))
    # Above the plot and level: turned text beside the ticks collides with them on a phone.
    parts.append(_text("axis", 4, 14, y.title, "start"))
    return parts


def _line(one: Series, x_scale: _Scale, y_scale: _Scale) -> str:
    path = " ".join(f"{x_scale(px):.1f},{y_scale(py):.1f}" for px, py in one.points)
    dashed = " dashed" if one.dashed else ""
    line = f'<polyline class="line c{one.colour}{dashed}" points="{path}"><title>{escape(one.name)}</title></polyline>'
    if len(one.points) > MANY_POINTS:
        return line
    dots = "".join(
        f'<circle class="dot c{one.colour}" cx="{x_scale(px):.1f}" cy="{y_scale(py):.1f}" r="3">'
        f"<title>{escape(one.name)}: {px:g}, {py:.4g}</title></circle>"
        for px, py in one.points
    )
    return line + dots


def _guide(one: Guide, x_scale: _Scale, y_scale: _Scale) -> str:
    if one.vertical:
        place = x_scale(one.value)
        turn = "end" if place > WIDTH / 2 else "start"
        line = f'<line class="guide" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        return line + _text("guide-label", place + (-5 if turn == "end" else 5), TOP + 12, one.label, turn)
    place = y_scale(one.value)
    line = f'<line class="guide" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
    return line + _text("guide-label", LEFT + 5, place - 5, one.label, "start")


def _mark(one: Mark, x_scale: _Scale, y_scale: _Scale) -> str:
    px, py = x_scale(one.x), y_scale(one.y)
    arms = f"M{px - 6:.1f},{py - 6:.1f}l12,12m0,-12l-12,12"
    return f'<path class="mark" d="{arms}"><title>{escape(one.label)}</title></path>'


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
