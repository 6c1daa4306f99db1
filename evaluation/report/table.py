"""The comparison table as one object: the content of results.json in, Markdown, plain text, CSV, LaTeX and HTML out.

What people decide from comes first: every evaluated row, baselines too, sorted by novel R@5, with intervals and
verdicts. Below follow: what to try next, the reasons of the verdicts, the pairs, the other figures, what ended early
and by which rule, and the protocol. Shares are 0..1 in files and per cent here; CSV keeps every figure as it is in
results.json.
"""

import csv
import io
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.io import write_text
from evaluation.measures.metrics import DECISION_METRIC, NOVEL
from evaluation.report import notes, render
from evaluation.report.columns import (
    COMPARISON_COLUMNS,
    DETAIL_COLUMNS,
    ENDED_COLUMNS,
    PAIR_COLUMNS,
    SEARCH_COLUMNS,
    SEED_COLUMNS,
    VERDICT_COLUMNS,
    Column,
    Section,
    decimal,
    number,
    tested,
)
from evaluation.results import Row, survived

ADVICE = "What to try next"
_CAPTIONS = {
    "Comparison": "Retrieval on held-out articles, sorted by R@5 over novel queries, with 95 % intervals.",
    "By seed": "The same figures under each training seed.",
    "Search": "What was tried for each variant; validation chose, test articles chose nothing.",
    "Verdicts": "The verdicts and what they rest on.",
    "Pairs": "Differences in novel R@5 with paired 95 % intervals.",
    "More figures": "Further figures over all queries.",
    "Ended early": "Trials without a final evaluation, with their last smoke evaluation.",
}


class ComparisonTable:
    """The rows of results.json in reading order, with the protocol that produced them."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = results
        self.best: str | None = results.get("best")
        self.compared: list[Row] = sorted(filter(survived, results["rows"]), key=_reading_order)
        self.ended: list[Row] = [row for row in results["rows"] if not survived(row)]
        self.pairs: list[Row] = [pair for pair in results.get("pairs") or () if tested(pair)]
        self.warnings = notes.warnings(results)
        self.advice: list[str] = list(results.get("advice") or ())
        verdict = results.get("verdict") or (f"Best: {self.best}" if self.best else "No variant can be named best")
        # The first sentence says what was found, the others with whom it is tied and why it is named nevertheless.
        self.headline, _, self.tie = str(verdict).partition(". ")

    @classmethod
    def from_results(cls, results: Mapping[str, Any]) -> "ComparisonTable":
        """Make the table from the content of results.json."""
        return cls(results)

    @property
    def sections(self) -> list[Section]:
        """What is rendered, in order; a section without rows and a figure that no row has are left out."""
        judged = tuple(row for row in self.compared if row.get("verdict_why"))
        pairs = tuple({**pair, **(tested(pair) or {})} for pair in self.pairs)
        sections = [
            Section("Comparison", COMPARISON_COLUMNS, tuple(self.compared)),
            Section("By seed", SEED_COLUMNS, tuple(row for row in self.results["rows"] if row.get("seeds"))),
            Section("Search", SEARCH_COLUMNS, tuple(self._samples())),
            Section("Verdicts", VERDICT_COLUMNS, judged),
            Section("Pairs", PAIR_COLUMNS, pairs),
            Section("More figures", (*DETAIL_COLUMNS, *self._own_columns()), tuple(self.compared)),
            Section("Ended early", ENDED_COLUMNS, tuple(self.ended)),
        ]
        return [section.filled() for section in sections if section.rows]

    def _samples(self) -> list[Row]:
        """The trials of every variant's search; those with the chosen settings are marked."""
        samples = []
        for row in self.results["rows"]:
            tried = row.get("search") or ()
            chosen = [one["settings"] for one in tried if one["trial"] == row["trial"] and survived(row)]
            samples += [{**one, "chosen": one["settings"] in chosen} for one in tried]
        return samples

    def _own_columns(self) -> list[Column]:
        """Columns of the metrics that the experiment brought along."""
        names = self.results["protocol"].get("own_metrics") or ()
        return [Column(key, decimal(key, 3)) for name in names for key in (NOVEL + name, name)]

    @property
    def reading(self) -> list[str]:
        """How the first table is read."""
        return notes.reading_notes(self.results, self.compared)

    @property
    def footnotes(self) -> list[str]:
        """How all figures are read, and the protocol line."""
        return [*self.reading, *notes.further_notes(self.results, self.compared, self.ended)]

    def markdown(self) -> str:
        """For README, pull requests and comparison.md."""
        say = render.markdown_text
        parts = [f"# {say(self.headline)}", say(self.tie), *(f"**Warning:** {say(one)}" for one in self.warnings)]
        for place, section in enumerate(self.sections):
            parts += [f"## {section.title}", render.markdown(section)]
            if place == 0 and self.advice:
                parts += [f"## {ADVICE}", "\n".join(f"- {say(one)}" for one in self.advice)]
        return "\n\n".join(filter(None, [*parts, *map(say, self.footnotes)])) + "\n"

    def terminal(self, width: int = render.WIDTH) -> str:
        """What a person decides from, without markup: headline, warnings, first table, advice, what ended early."""
        shown = {section.title: section for section in self.sections}
        first = [render.plain(shown["Comparison"], width)] if "Comparison" in shown else []
        seeds = [render.plain(shown[title], width) for title in ("By seed", "Search") if title in shown]
        last = [render.plain(shown["Ended early"], width)] if "Ended early" in shown else []
        above = [self.headline, self.tie, *(f"Warning: {one}" for one in self.warnings)]
        reading = [textwrap.fill(" ".join(self.reading), width)] if first else []
        advice = "\n".join(
            textwrap.fill(one, width, initial_indent="- ", subsequent_indent="  ") for one in self.advice
        )
        parts = [*(textwrap.fill(one, width) for one in above), *first, *seeds, *reading, advice, *last]
        return "\n\n".join(filter(None, parts))

    def latex(self) -> str:
        """One table environment a section, to put into a paper."""
        name = str(self.results["protocol"].get("experiment") or "run")
        tables = [
            render.latex(section, f"{name}-{section.title.lower()}", _CAPTIONS[section.title])
            for section in self.sections
        ]
        return "\n\n".join([r"% needs \usepackage{booktabs} in the preamble", *tables]) + "\n"

    def html(self) -> str:
        """A plain page of its own."""
        return render.TEMPLATES.get_template("comparison.html.j2").render(table=self, advice_title=ADVICE)

    def csv(self) -> str:
        """Every row and every scalar of it at full precision, intervals as two columns; shares stay 0..1."""
        flat = [_flatten(row) for row in (*self.compared, *self.ended)]
        fields = list(dict.fromkeys(key for row in flat for key in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return out.getvalue()

    def write(self, run: str | Path) -> list[Path]:
        """Write comparison.md, .csv, .html and .tex into a run folder; return their paths."""
        rendered = {"md": self.markdown(), "csv": self.csv(), "html": self.html(), "tex": self.latex()}
        paths = [Path(run) / f"comparison.{suffix}" for suffix in rendered]
        for path, text in zip(paths, rendered.values(), strict=True):
            write_text(path, text)
        return paths


def _reading_order(row: Row) -> tuple[float, ...]:
    """The best first, by novel R@5, then by R@5; a row without the figure comes last."""
    values = (number(row, DECISION_METRIC), number(row, "r@5"))
    return tuple(math.inf if value is None else -value for value in values)


def _flatten(row: Row) -> dict[str, Any]:
    """Scalars as they are, intervals as `<metric>_low` and `<metric>_high`; gates stay in results.json."""
    flat = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    for name, bounds in (row.get("ci") or {}).items():
        flat[f"{name}_low"], flat[f"{name}_high"] = bounds
    return flat
