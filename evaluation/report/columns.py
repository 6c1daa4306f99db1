"""The grids of the comparison table: which columns they have and how a cell is written.

A cell is text already; every renderer shows the same text. `Column.value` is what a sortable page sorts by.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.measures.metrics import EXCLUDE_CONTEXT
from evaluation.results import Row

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A header and how a row's cell is written."""

    header: str
    cell: Callable[[Row], str]
    align: Literal["left", "right"] = "right"
    key: str | None = None
    """The row's figure behind the cell, where there is one."""


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
    return str(row.get("verdict") or ("baseline" if row.get("kind") == "baseline" else MISSING))


def share_column(header: str, key: str, *, interval: bool = False) -> Column:
    """A share as per cent."""
    return Column(header, per_cent(key, interval=interval), key=key)


def figure_column(header: str, key: str, places: int) -> Column:
    """A number with a fixed number of decimals."""
    return Column(header, decimal(key, places), key=key)


def count_column(header: str, key: str) -> Column:
    """A count in three digits."""
    return Column(header, short_count(key), key=key)


NAME = Column("variant", words("variant"), "left")

DECISION_COLUMNS = (
    NAME,
    share_column("R@5 %", "r@5", interval=True),
    share_column("Contain@50 %", "contain@50", interval=True),
    share_column("Eff@5 %", "eff@5", interval=True),
    figure_column("MRR@10", "mrr@10", 3),
    figure_column("P95 ms", "p95_ms", 2),
    count_column("params", "params"),
    count_column("tie", "tie_group"),
    Column("verdict", _verdict, "left"),
)

VERDICT_COLUMNS = (NAME, Column("verdict", _verdict, "left"), Column("because", words("verdict_why"), "left"))

DETAIL_COLUMNS = (
    NAME,
    share_column("R@1 %", "r@1"),
    share_column("R@10 %", "r@10"),
    share_column("Cont@20 %", "contain@20"),
    share_column("R@5 % no ctx", EXCLUDE_CONTEXT + "r@5"),
    figure_column("cosine", "cosine", 3),
    figure_column("P50 ms", "p50_ms", 2),
    figure_column("model P95", "predict_p95_ms", 2),
    count_column("epochs", "epochs"),
    figure_column("train s", "train_s", 0),
    count_column("windows", "windows_seen"),
)

ENDED_COLUMNS = (
    NAME,
    Column("status", words("status"), "left"),
    count_column("epoch", "epochs"),
    share_column("R@5 %", "r@5"),
    share_column("Contain@50 %", "contain@50"),
    Column("why", words("reason"), "left"),
)


def _tested(row: Row) -> dict[str, Any]:
    """The decision metric of a pair of results.json."""
    return dict(row["metrics"]["r@5"])


def _points(value: float | None) -> str:
    return MISSING if value is None or math.isnan(value) else f"{100 * value:+.1f}"


def _difference(row: Row) -> str:
    found = _tested(row)
    low, high = found["ci"]
    return f"{_points(found['difference'])} ({_points(low)} to {_points(high)})"


def _p_value(row: Row) -> str:
    p = _tested(row)["p_holm"]
    return MISSING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


PAIR_COLUMNS = (
    Column("a", words("a"), "left"),
    Column("b", words("b"), "left"),
    Column("R@5 a - b, points", _difference),
    Column("only a / only b", lambda row: f"{_tested(row)['only_a']} / {_tested(row)['only_b']}"),
    Column("Holm p", _p_value),
    Column("detectable", lambda row: _points(_tested(row)["minimum_detectable"]).lstrip("+")),
    Column("better", words("better", otherwise="tied"), "left"),
)
