"""The grids of the comparison table: which columns they have and how a cell is written.

A cell is text already; every renderer shows the same text. `Column.value` is what a sortable page sorts by.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from evaluation.ending import SURVIVED
from evaluation.measures import writing
from evaluation.measures.metrics import COPIED, DECISION_METRIC, EXACT, EXCLUDE_CONTEXT, NOVEL
from evaluation.results import Row

MISSING = "-"


def number(row: Row, key: str) -> float | None:
    """A row's figure, None when it is missing or NaN."""
    value = row.get(key)
    return None if value is None or isinstance(value, str) or math.isnan(float(value)) else float(value)


def interval(row: Row, key: str) -> tuple[float, float] | None:
    """The 95 % interval of a row's figure, None when it is missing or undefined."""
    low, high = (row.get("ci") or {}).get(key) or (None, None)
    return None if low is None or high is None or math.isnan(low + high) else (low, high)


@dataclass(frozen=True, slots=True)
class Figure:
    """A cell that shows a row's figure, with its 95 % interval where that is asked for and known."""

    key: str
    write: Callable[[float], str]
    with_interval: bool = False

    def __call__(self, row: Row) -> str:
        """The text: `21.3` or `21.3 (19.8-22.9)`."""
        value, bounds = number(row, self.key), interval(row, self.key)
        if value is None:
            return MISSING
        return self.write(value) + (f" ({'-'.join(map(self.write, bounds))})" if self.with_interval and bounds else "")


def per_cent(key: str, *, with_interval: bool = False) -> Figure:
    """A share as per cent with one decimal."""
    return Figure(key, writing.per_cent, with_interval)


def decimal(key: str, places: int) -> Figure:
    """A figure with a fixed number of decimals."""
    return Figure(key, lambda value: f"{value:.{places}f}")


def short_count(key: str) -> Figure:
    """A count in three significant digits: `2.1M`, `640k`, `12`."""
    return Figure(key, _short)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `7 min` or `1 h 23 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def words(key: str, *, otherwise: str = MISSING) -> Callable[[Row], str]:
    """A row's text."""
    return lambda row: str(row.get(key) or otherwise)


@dataclass(frozen=True, slots=True)
class Column:
    """A header, which may have two lines, and how a row's cell is written."""

    header: str
    cell: Callable[[Row], str]
    align: Literal["left", "right"] = "right"
    optional: bool = False
    """Left out where a terminal is too narrow."""

    @property
    def title(self) -> str:
        """The header in one line."""
        return self.header.replace("\n", " ")

    def value(self, row: Row) -> float | None:
        """The figure behind a row's cell."""
        return number(row, self.cell.key) if isinstance(self.cell, Figure) else None


@dataclass(frozen=True, slots=True)
class Section:
    """One rendered grid: a title and cells that are already text."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def cells(self) -> list[list[str]]:
        """(rows, columns) of text without line breaks and without anything that a terminal would obey."""
        return [[_one_line(column.cell(row)) for column in self.columns] for row in self.rows]

    def filled(self) -> "Section":
        """The section without the columns of figures that no row has."""
        missing = [
            isinstance(column.cell, Figure) and all(column.value(row) is None for row in self.rows)
            for column in self.columns
        ]
        kept = (column for column, lost in zip(self.columns, missing, strict=True) if not lost)
        return Section(self.title, tuple(kept), self.rows)


def _one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def _verdict(row: Row) -> str:
    return str(row.get("verdict") or ("baseline" if row.get("kind") == "baseline" else MISSING))


NAME = Column("variant", words("variant"), "left")
VERDICT = Column("verdict", _verdict, "left")

COMPARISON_COLUMNS = (
    NAME,
    Column("novel\nR@5 %", per_cent(DECISION_METRIC, with_interval=True)),
    Column("R@5 %", per_cent("r@5")),
    Column("R@5 %\nno ctx", per_cent(EXCLUDE_CONTEXT + "r@5"), optional=True),
    Column("novel\nContain@50 %", per_cent(NOVEL + "contain@50", with_interval=True)),
    Column("novel\nMRR@10", decimal(NOVEL + "mrr@10", 3), optional=True),
    Column("answer\nP95 ms", decimal("answer_p95_ms", 2)),
    Column("params", short_count("params"), optional=True),
    Column("tie", short_count("tie_group")),
    VERDICT,
)


def _by_seed(figure: Figure) -> Callable[[Row], str]:
    """A figure of every seed, in the order of the seeds; a dash for a trial that was not evaluated."""
    return lambda row: " ".join(figure(one) for one in row["seeds"])


def _spread(row: Row) -> str:
    values = [value for one in row["seeds"] if (value := number(one, DECISION_METRIC)) is not None]
    return writing.per_cent(stdev(values)) if len(values) > 1 else MISSING


def _survived(row: Row) -> str:
    return f"{sum(one['status'] in SURVIVED for one in row['seeds'])} of {len(row['seeds'])}"


SEED_COLUMNS = (
    NAME,
    Column("survived", _survived, "left"),
    Column("novel R@5 %\nby seed", _by_seed(per_cent(DECISION_METRIC))),
    Column("standard\ndeviation", _spread),
    Column("novel Contain@50 %\nby seed", _by_seed(per_cent(NOVEL + "contain@50"))),
    Column("best epoch\nby seed", _by_seed(short_count("best_epoch"))),
    Column("weights of", words("trial"), "left"),
)

SEARCH_COLUMNS = (
    Column("trial", words("trial"), "left"),
    Column("settings", lambda row: ", ".join(f"{key} {value}" for key, value in row["settings"].items()), "left"),
    Column("status", words("status"), "left"),
    Column("epochs", short_count("epochs")),
    Column("score on\nvalidation", decimal("score", 4)),
    Column("best\nepoch", short_count("best_epoch")),
    Column("TFLOP", lambda row: f"{row['flops'] / 1e12:.2f}"),
    Column("train s", decimal("train_s", 0)),
    Column("", lambda row: "chosen" if row["chosen"] else "", "left"),
)

VERDICT_COLUMNS = (NAME, VERDICT, Column("because", words("verdict_why"), "left"))

DETAIL_COLUMNS = (
    NAME,
    Column("R@5 %\ncopied", per_cent(COPIED + "r@5")),
    Column("R@5 %\nexact", per_cent(EXACT + "r@5")),
    Column("R@1 %", per_cent("r@1")),
    Column("R@10 %", per_cent("r@10")),
    Column("Contain@50 %", per_cent("contain@50")),
    Column("Eff@5 %", per_cent("eff@5")),
    Column("cosine", decimal("cosine", 3)),
    Column("search\nP95 ms", decimal("p95_ms", 2)),
    Column("model\nP95 ms", decimal("predict_p95_ms", 2)),
    Column("epochs", short_count("epochs")),
    Column("train s", decimal("train_s", 0)),
    Column("windows", short_count("windows_seen")),
)

ENDED_COLUMNS = (
    NAME,
    Column("status", words("status"), "left"),
    Column("epoch", short_count("epochs")),
    Column("novel\nR@5 %", per_cent(DECISION_METRIC)),
    Column("R@5 %", per_cent("r@5")),
    Column("Contain@50 %", per_cent("contain@50")),
    Column("why", words("reason"), "left"),
)


def tested(pair: Row) -> Row | None:
    """What a pair of results.json says of the metric that decides; None when it was not compared."""
    found: Row | None = pair["metrics"].get(DECISION_METRIC)
    return found


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return MISSING if value is None or math.isnan(value) else writing.points(value)


def p_value(p: float | None) -> str:
    """A p-value in three decimals."""
    return MISSING if p is None or math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _difference(row: Row) -> str:
    low, high = map(points, row["ci"])
    return f"{points(row['difference'])} ({low} to {high})"


# Their rows are what `tested` finds, with the names of the pair.
PAIR_COLUMNS = (
    Column("a", words("a"), "left"),
    Column("b", words("b"), "left"),
    Column("novel R@5 a - b,\npoints", _difference),
    Column("Holm p", lambda row: p_value(row["p_holm"])),
    Column("detectable", lambda row: points(row["minimum_detectable"]).lstrip("+")),
    Column("better", words("better", otherwise="tied"), "left"),
)
