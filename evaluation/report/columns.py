"""The grids of the comparison table: which columns they have and how a cell is written.

A cell is text already; every renderer shows the same text. `Column.value` is what a sortable page sorts by.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evaluation.measures.metrics import EXCLUDE_CONTEXT
from evaluation.results import Row

MISSING = "-"
NOVEL = "novel."  # prefix of a metric over novel queries
DECISION = NOVEL + "r@5"  # what ties, best and verdict rest on


@dataclass(frozen=True, slots=True)
class Column:
    """A header, which may have two lines, and how a row's cell is written."""

    header: str
    cell: Callable[[Row], str]
    align: Literal["left", "right"] = "right"
    key: str | None = None
    """The row's figure behind the cell, where there is one."""
    optional: bool = False
    """Left out where a terminal is too narrow."""

    @property
    def title(self) -> str:
        """The header in one line."""
        return self.header.replace("\n", " ")

    def value(self, row: Row) -> float | None:
        """The figure behind a row's cell."""
        return number(row, self.key) if self.key else None


@dataclass(frozen=True, slots=True)
class Section:
    """One rendered grid: a title and cells that are already text."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def cells(self) -> list[list[str]]:
        """(rows, columns) of text."""
        return [[one_line(column.cell(row)) for column in self.columns] for row in self.rows]

    def filled(self) -> "Section":
        """The section without the columns of figures that no row has."""
        kept = [one for one in self.columns if not one.key or any(one.value(row) is not None for row in self.rows)]
        return Section(self.title, tuple(kept), self.rows)


def one_line(text: str) -> str:
    """Text for a cell: no line breaks, and nothing that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))


def number(row: Row, key: str) -> float | None:
    """A row's figure, None when it is missing or NaN."""
    value = row.get(key)
    if value is None or isinstance(value, str) or math.isnan(float(value)):
        return None
    return float(value)


def interval(row: Row, key: str) -> tuple[float, float] | None:
    """The 95 % interval of a row's figure, None when it is missing or undefined."""
    low, high = (row.get("ci") or {}).get(key) or (None, None)
    return None if low is None or high is None or math.isnan(low + high) else (low, high)


def per_cent(key: str, *, with_interval: bool = False) -> Callable[[Row], str]:
    """A share as per cent with one decimal, with its 95 % interval when asked and known: `21.3 (19.8-22.9)`."""

    def cell(row: Row) -> str:
        value, bounds = number(row, key), interval(row, key)
        if value is None:
            return MISSING
        text = f"{100 * value:.1f}"
        return f"{text} ({100 * bounds[0]:.1f}-{100 * bounds[1]:.1f})" if with_interval and bounds else text

    return cell


def decimal(key: str, places: int) -> Callable[[Row], str]:
    """A figure with a fixed number of decimals."""

    def cell(row: Row) -> str:
        value = number(row, key)
        return MISSING if value is None else f"{value:.{places}f}"

    return cell


def short_count(key: str) -> Callable[[Row], str]:
    """A count in three significant digits: `2.1M`, `640k`, `12`."""

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
    return str(row.get("verdict") or ("baseline" if row.get("kind") == "baseline" else MISSING))


def _share(header: str, key: str, *, with_interval: bool = False, optional: bool = False) -> Column:
    return Column(header, per_cent(key, with_interval=with_interval), key=key, optional=optional)


def _figure(header: str, key: str, places: int, *, optional: bool = False) -> Column:
    return Column(header, decimal(key, places), key=key, optional=optional)


def _count(header: str, key: str, *, optional: bool = False) -> Column:
    return Column(header, short_count(key), key=key, optional=optional)


NAME = Column("variant", words("variant"), "left")

COMPARISON_COLUMNS = (
    NAME,
    _share("novel\nR@5 %", DECISION, with_interval=True),
    _share("R@5 %", "r@5"),
    _share("R@5 %\nno ctx", EXCLUDE_CONTEXT + "r@5", optional=True),
    _share("novel\nContain@50 %", NOVEL + "contain@50", with_interval=True),
    _figure("novel\nMRR@10", NOVEL + "mrr@10", 3, optional=True),
    _figure("answer\nP95 ms", "answer_p95_ms", 2),
    _count("params", "params", optional=True),
    _count("tie", "tie_group"),
    Column("verdict", _verdict, "left"),
)

VERDICT_COLUMNS = (NAME, Column("verdict", _verdict, "left"), Column("because", words("verdict_why"), "left"))

DETAIL_COLUMNS = (
    NAME,
    _share("R@5 %\ncopied", "copied.r@5"),
    _share("R@5 %\nexact", "exact.r@5"),
    _share("R@1 %", "r@1"),
    _share("R@10 %", "r@10"),
    _share("Contain@50 %", "contain@50"),
    _share("Eff@5 %", "eff@5"),
    _figure("cosine", "cosine", 3),
    _figure("search\nP95 ms", "p95_ms", 2),
    _figure("model\nP95 ms", "predict_p95_ms", 2),
    _count("epochs", "epochs"),
    _figure("train s", "train_s", 0),
    _count("windows", "windows_seen"),
)

ENDED_COLUMNS = (
    NAME,
    Column("status", words("status"), "left"),
    _count("epoch", "epochs"),
    _share("novel\nR@5 %", DECISION),
    _share("R@5 %", "r@5"),
    _share("Contain@50 %", "contain@50"),
    Column("why", words("reason"), "left"),
)


def tested(pair: Row) -> Row | None:
    """What a pair of results.json says of the metric that decides; None when it was not compared."""
    found: Row | None = pair["metrics"].get(DECISION)
    return found


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return MISSING if value is None or math.isnan(value) else f"{round(100 * value, 1) + 0.0:+.1f}"


def p_value(p: float | None) -> str:
    """A p-value in three decimals."""
    return MISSING if p is None or math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _difference(row: Row) -> str:
    low, high = row["ci"]
    return f"{points(row['difference'])} ({points(low)} to {points(high)})"


# Their rows are what `tested` finds, with the names of the pair.
PAIR_COLUMNS = (
    Column("a", words("a"), "left"),
    Column("b", words("b"), "left"),
    Column("novel R@5 a - b,\npoints", _difference),
    Column("Holm p", lambda row: p_value(row["p_holm"])),
    Column("detectable", lambda row: points(row["minimum_detectable"]).lstrip("+")),
    Column("better", words("better", otherwise="tied"), "left"),
)
