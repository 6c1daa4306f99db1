"""The comparison table as one object: rows and protocol in, Markdown, plain text and CSV out.

What people decide from comes first and fits 120 columns: survivors, best first, with intervals and verdict, then the
baselines. The remaining figures follow in a second table, then what ended early with the rule and value that ended
it, then the protocol. Shares are 0..1 in files and per cent here; CSV keeps every figure as it is in results.json.
"""

import csv
import io
import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tabulate import tabulate

from evaluation.metrics import EXCLUDE_CONTEXT
from evaluation.results import Row, survived

MISSING = "-"
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Column:
    """A header and how a row's cell is written."""

    header: str
    cell: Callable[[Row], str]
    align: Literal["left", "right"] = "right"


@dataclass(frozen=True, slots=True)
class Section:
    """One rendered grid: a title and cells that are already text."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def cells(self) -> list[list[str]]:
        """(rows, columns) of text."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]


def number(row: Row, key: str) -> float | None:
    """A row's figure, None when it is missing or NaN."""
    value = row.get(key)
    if value is None or isinstance(value, str) or math.isnan(float(value)):
        return None
    return float(value)


def per_cent(key: str, *, interval: bool = False) -> Callable[[Row], str]:
    """A share as per cent with one decimal, with its 95 % interval when asked and known: `21.3 (19.8-22.9)`."""

    def cell(row: Row) -> str:
        value = number(row, key)
        if value is None:
            return MISSING
        text = f"{100 * value:.1f}"
        low, high = (row.get("ci") or {}).get(key) or (math.nan, math.nan)
        known = low is not None and high is not None and not math.isnan(low + high)
        return f"{text} ({100 * low:.1f}-{100 * high:.1f})" if interval and known else text

    return cell


def decimal(key: str, places: int) -> Callable[[Row], str]:
    """A figure with a fixed number of decimals."""

    def cell(row: Row) -> str:
        value = number(row, key)
        return MISSING if value is None else f"{value:.{places}f}"

    return cell


def short_count(key: str) -> Callable[[Row], str]:
    """A count in three significant digits: `2.10M`, `640k`, `12`."""

    def cell(row: Row) -> str:
        value = number(row, key)
        if value is None:
            return MISSING
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:.3g}{letter}"
        return f"{value:.0f}"

    return cell


def words(key: str, *, otherwise: str = MISSING) -> Callable[[Row], str]:
    """A row's text."""
    return lambda row: str(row.get(key) or otherwise)


def _verdict(row: Row) -> str:
    return (
        "baseline" if row.get("kind") == "baseline" and not row.get("verdict") else str(row.get("verdict") or MISSING)
    )


def _name(row: Row) -> str:
    return str(row["variant"])


NAME = Column("variant", _name, "left")

DECISION_COLUMNS = (
    NAME,
    Column("R@5 %", per_cent("r@5", interval=True)),
    Column("Contain@50 %", per_cent("contain@50", interval=True)),
    Column("Eff@5 %", per_cent("eff@5", interval=True)),
    Column("MRR@10", decimal("mrr@10", 3)),
    Column("P95 ms", decimal("p95_ms", 2)),
    Column("params", short_count("params")),
    Column("verdict", _verdict, "left"),
)

DETAIL_COLUMNS = (
    NAME,
    Column("R@1 %", per_cent("r@1")),
    Column("R@10 %", per_cent("r@10")),
    Column("Cont@20 %", per_cent("contain@20")),
    Column("R@5 % no ctx", per_cent(EXCLUDE_CONTEXT + "r@5")),
    Column("cosine", decimal("cosine", 3)),
    Column("P50 ms", decimal("p50_ms", 2)),
    Column("model P95", decimal("predict_p95_ms", 2)),
    Column("epochs", short_count("epochs")),
    Column("train s", decimal("train_s", 0)),
    Column("windows", short_count("windows_seen")),
)

ENDED_COLUMNS = (
    NAME,
    Column("status", words("status"), "left"),
    Column("epoch", short_count("epochs")),
    Column("R@5 %", per_cent("r@5")),
    Column("Contain@50 %", per_cent("contain@50")),
    Column("why", words("reason"), "left"),
)


class ComparisonTable:
    """The rows of results.json in reading order, with the protocol that produced them."""

    def __init__(
        self, rows: Iterable[Row], protocol: dict[str, Any], *, best: str | None = None, verdict: str = ""
    ) -> None:
        rows = list(rows)
        self.protocol = protocol
        self.best = best
        self.verdict = verdict
        finished = [row for row in rows if survived(row)]
        self.survivors = sorted((row for row in finished if row.get("kind") != "baseline"), key=self._reading_order)
        self.baselines = sorted((row for row in finished if row.get("kind") == "baseline"), key=self._reading_order)
        self.ended = [row for row in rows if not survived(row)]

    @classmethod
    def from_results(cls, results: dict[str, Any]) -> "ComparisonTable":
        """Make the table from the content of results.json."""
        return cls(
            results["rows"], results["protocol"], best=results.get("best"), verdict=str(results.get("verdict") or "")
        )

    def _reading_order(self, row: Row) -> tuple[bool, float]:
        """The best first, then by R@5."""
        value = number(row, "r@5")
        return (row["variant"] != self.best, -value if value is not None else math.inf)

    @property
    def sections(self) -> list[Section]:
        """What is rendered, in order; a section without rows is left out."""
        compared = (*self.survivors, *self.baselines)
        sections = [
            Section("Comparison", DECISION_COLUMNS, compared),
            Section("More figures", DETAIL_COLUMNS, compared),
            Section("Ended early", ENDED_COLUMNS, tuple(self.ended)),
        ]
        return [section for section in sections if section.rows]

    @property
    def headline(self) -> str:
        """One sentence: which one is best, or that none is."""
        best = f"Best: {self.best}" if self.best else "No variant survived"
        return f"{best}. {self.verdict}".strip() if self.verdict else f"{best}."

    @property
    def footnotes(self) -> list[str]:
        """How to read the figures, and the protocol line."""
        return [
            "Brackets: 95 % bootstrap intervals over queries. P95: search alone, batch of one, one thread; "
            "model P95: its forward pass, in ms. No ctx: the query's own context chunks are taken out of the results.",
            f"Protocol: {protocol_line(self.protocol)}",
        ]

    def markdown(self) -> str:
        """For README, pull requests and comparison.md."""
        parts = [f"# {self.headline}"]
        for section in self.sections:
            parts += [f"## {section.title}", _grid(section, "pipe", escape=_escape_markdown)]
        return "\n\n".join([*parts, *self.footnotes]) + "\n"

    def text(self) -> str:
        """For a terminal: no markup, at most 120 columns as long as names are short."""
        parts = [self.headline]
        for section in self.sections:
            parts.append(f"{section.title}\n{_plain_grid(section)}")
        parts += [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in self.footnotes]
        return "\n\n".join(parts) + "\n"

    def csv(self) -> str:
        """Every row and every scalar of it at full precision, intervals as two columns; shares stay 0..1."""
        flat = [_flatten(row) for row in (*self.survivors, *self.baselines, *self.ended)]
        fields = list(dict.fromkeys(key for row in flat for key in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return out.getvalue()


def protocol_line(protocol: dict[str, Any]) -> str:
    """`key value; key value; ...`, nested settings in brackets: what was measured, on what, with what."""
    return "; ".join(f"{key} {_plain(value)}" for key, value in protocol.items() if value not in (None, "", [], {}))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) + ")"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _grid(section: Section, style: str, escape: Callable[[str], str] = str) -> str:
    cells = [[escape(cell) for cell in row] for row in section.cells()]
    headers = [column.header for column in section.columns]
    align = [column.align for column in section.columns]
    return tabulate(cells, headers, tablefmt=style, disable_numparse=True, colalign=align)


def _plain_grid(section: Section) -> str:
    """Columns two spaces apart (tabulate pads headers, which costs a terminal 16 columns); the last one is wrapped."""
    grid = [[column.header for column in section.columns], *section.cells()]
    widths = [max(len(row[place]) for row in grid) for place in range(len(section.columns))]
    room = max(WIDTH - sum(widths[:-1]) - 2 * (len(widths) - 1), 20)
    widths[-1] = min(widths[-1], room)
    lines = []
    for row in [grid[0], ["-" * width for width in widths], *grid[1:]]:
        last, *more = textwrap.wrap(row[-1], room) or [""]
        cells = zip([*row[:-1], last], widths, section.columns, strict=True)
        line = "  ".join(f"{cell:{'<' if column.align == 'left' else '>'}{width}}" for cell, width, column in cells)
        lines += [line.rstrip(), *(" " * (sum(widths[:-1]) + 2 * (len(widths) - 1)) + rest for rest in more)]
    return "\n".join(lines)


def _escape_markdown(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _flatten(row: Row) -> dict[str, Any]:
    """Scalars as they are, intervals as `<metric>_low` and `<metric>_high`; gates stay in results.json."""
    flat = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    for name, bounds in (row.get("ci") or {}).items():
        flat[f"{name}_low"], flat[f"{name}_high"] = bounds
    return flat
