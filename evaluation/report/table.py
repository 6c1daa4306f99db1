"""The comparison table as one object: rows and protocol in, Markdown, plain text, CSV, LaTeX and HTML out.

What people decide from comes first and fits 120 columns: survivors, best first, with intervals and verdict, then the
baselines. Below follow the reasons of the verdicts, the pairs, the remaining figures, what ended early with the rule
and value that ended it, and the protocol. Shares are 0..1 in files and per cent here; CSV keeps every figure as it is
in results.json.
"""

import csv
import io
import math
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from evaluation.report import render
from evaluation.report.columns import (
    DECISION_COLUMNS,
    DETAIL_COLUMNS,
    ENDED_COLUMNS,
    PAIR_COLUMNS,
    VERDICT_COLUMNS,
    Section,
    number,
)
from evaluation.results import Row, survived

PAGE_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.3rem .7rem;text-align:left}"
    "th{border-bottom:2px solid}td{border-bottom:1px solid #8884}.right{text-align:right}.ci{opacity:.7}"
    "div{overflow-x:auto}"
)


class ComparisonTable:
    """The rows of results.json in reading order, with the protocol that produced them."""

    def __init__(
        self,
        rows: Iterable[Row],
        protocol: dict[str, Any],
        *,
        best: str | None = None,
        verdict: str = "",
        pairs: Iterable[Row] = (),
    ) -> None:
        rows = list(rows)
        self.protocol = protocol
        self.best = best
        self.verdict = verdict
        self.pairs = tuple(pairs)
        finished = [row for row in rows if survived(row)]
        self.survivors = sorted((row for row in finished if row.get("kind") != "baseline"), key=self._reading_order)
        self.baselines = sorted((row for row in finished if row.get("kind") == "baseline"), key=self._reading_order)
        self.ended = [row for row in rows if not survived(row)]

    @classmethod
    def from_results(cls, results: dict[str, Any]) -> "ComparisonTable":
        """Make the table from the content of results.json."""
        return cls(
            results["rows"],
            results["protocol"],
            best=results.get("best"),
            # Without a best variant the headline says all that the verdict does.
            verdict=str(results.get("verdict") or "") if results.get("best") else "",
            pairs=results.get("pairs") or (),
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
            Section("Verdicts", VERDICT_COLUMNS, tuple(row for row in self.survivors if row.get("verdict_why"))),
            Section("Pairs", PAIR_COLUMNS, self.pairs),
            Section("More figures", DETAIL_COLUMNS, compared),
            Section("Ended early", ENDED_COLUMNS, tuple(self.ended)),
        ]
        return [section for section in sections if section.rows]

    @property
    def headline(self) -> str:
        """Which one is best, or that none is."""
        return f"Best: {self.best}" if self.best else "No variant survived"

    @property
    def footnotes(self) -> list[str]:
        """How to read the figures, what the index was chosen from, and the protocol line."""
        notes = [
            "Brackets: 95 % bootstrap intervals over queries. P95: search alone, batch of one, one thread; model P95: "
            "its forward pass, in ms. No ctx: the query's own context chunks are taken out of the results.",
        ]
        if any("tie_group" in row for row in self.survivors):
            notes.append("Tie: variants with the same number cannot be told apart on R@5 (McNemar, Holm).")
        if self.pairs:
            notes.append("Detectable: the smallest true difference these queries reveal with power 80 %, in points.")
        if self.ended:
            notes.append("Figures of what ended early are those of its last smoke evaluation, on other queries.")
        tried = (self.protocol.get("index") or {}).get("tried")
        if tried:
            notes.append(f"Index chosen from: {'; '.join(_plain(one) for one in tried)}")
        return [*notes, f"Protocol: {protocol_line(self.protocol)}"]

    def markdown(self) -> str:
        """For README, pull requests and comparison.md."""
        parts = [f"# {self.headline}", self.verdict]
        for section in self.sections:
            parts += [f"## {section.title}", render.markdown(section)]
        return "\n\n".join(filter(None, [*parts, *self.footnotes])) + "\n"

    def text(self) -> str:
        """For a terminal: no markup, at most 120 columns as long as names are short."""
        parts = [self.headline, textwrap.fill(self.verdict, render.WIDTH)]
        parts += [f"{section.title}\n{render.plain(section)}" for section in self.sections]
        parts += [textwrap.fill(note, render.WIDTH, subsequent_indent="  ") for note in self.footnotes]
        return "\n\n".join(filter(None, parts)) + "\n"

    def latex(self) -> str:
        """One tabular a section, with its title as a comment, to paste into a paper that uses booktabs."""
        return "\n\n".join(f"% {section.title}\n{render.latex(section)}" for section in self.sections) + "\n"

    def html(self) -> str:
        """A plain page of its own."""
        parts = [f"<h1>{escape(self.headline)}</h1>", f"<p>{escape(self.verdict)}</p>"]
        for section in self.sections:
            parts.append(f"<h2>{escape(section.title)}</h2><div>{render.html(section)}</div>")
        parts += [f"<p>{escape(note)}</p>" for note in self.footnotes]
        head = f'<meta charset="utf-8"><title>{escape(self.headline)}</title><style>{PAGE_STYLE}</style>'
        viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        return f'<!doctype html><html lang="en"><head>{head}{viewport}</head><body>{"".join(parts)}</body></html>\n'

    def csv(self) -> str:
        """Every row and every scalar of it at full precision, intervals as two columns; shares stay 0..1."""
        flat = [_flatten(row) for row in (*self.survivors, *self.baselines, *self.ended)]
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
            part = path.with_name(path.name + ".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        return paths


def protocol_line(protocol: dict[str, Any]) -> str:
    """`key value; key value; ...`, nested settings in brackets: what was measured, on what, with what."""
    return "; ".join(f"{key} {_plain(value)}" for key, value in protocol.items() if value not in (None, "", [], {}))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items() if key != "tried") + ")"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _flatten(row: Row) -> dict[str, Any]:
    """Scalars as they are, intervals as `<metric>_low` and `<metric>_high`; gates stay in results.json."""
    flat = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    for name, bounds in (row.get("ci") or {}).items():
        flat[f"{name}_low"], flat[f"{name}_high"] = bounds
    return flat
