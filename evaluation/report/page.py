"""report.html: one self-contained page about a run, without a network, light or dark as the reader's system is.

    python -m evaluation.report RUN [--payload FOLDER]

The command renders the tables again, too. What is on the page and in which order is templates/report.html.j2.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data.errors import UserError, one_line
from data.io import write_text
from evaluation.measures.metrics import DECISION_METRIC, NOVEL
from evaluation.report import figures, notes
from evaluation.report.columns import decimal, duration, number, p_value, per_cent, points, tested
from evaluation.report.examples import examples
from evaluation.report.render import TEMPLATES
from evaluation.report.run_data import RunData, load_run
from evaluation.report.table import ADVICE
from evaluation.results import Row

REPORT_FILE = "report.html"
BADGES = {"PRODUCTION READY": "good", "TIE": "tie", "BEHIND": "bad", "REJECT": "bad"}


class Card(NamedTuple):
    """One figure at the top of the page."""

    value: str
    title: str
    note: str = ""


class Cell(NamedTuple):
    """One pair in the matrix: row minus column, with its interval, p and what could have been found."""

    css: str
    lines: Sequence[str]


def write_report(run: str | Path, payload: str | None = None) -> Path:
    """Render a run folder into its report.html; return the path.

    Raises:
        MissingFileError, UserError: in one line, when the run has no readable results.
    """
    path = Path(run) / REPORT_FILE
    write_text(path, render(load_run(run, payload)))
    return path


def write_all(run: str | Path, payload: str | None = None) -> list[Path]:
    """Write the comparison table in every format and report.html; return the paths.

    Raises:
        MissingFileError, UserError: in one line, when the run has no readable results.
    """
    loaded = load_run(run, payload)
    return [*loaded.table.write(run), write_report(run, payload)]


def render(run: RunData) -> str:
    """The whole page."""
    return TEMPLATES.get_template("report.html.j2").render(
        run=run,
        table=run.table,
        sections={section.title: section for section in run.table.sections},
        advice_title=ADVICE,
        word=_word(run),
        badges=BADGES,
        cards=_cards(run),
        matrix=_matrix(run.table.pairs),
        training=figures.training_figures(run),
        final=figures.final_figures(run),
        times=figures.time_figures(run),
        examples=examples(run),
        triage={row["variant"]: row["triage"] for row in run.rows if row.get("triage")},
        differences=_differences(run),
        config=yaml.safe_dump(dict(run.config), sort_keys=False) if run.config else "",
        facts={key: notes.shown(value) for key, value in notes.told(run.results["protocol"]).items()},
    )


def _word(run: RunData) -> str:
    """The verdict of the variant that the page is about."""
    row = run.first("variant")
    return "NO SURVIVOR" if row is None else str(row.get("verdict") or "")


def _cards(run: RunData) -> list[Card]:
    row, baseline = run.first("variant"), run.first("baseline")
    cards = []
    if row is not None:
        titles = {DECISION_METRIC: f"novel R@5, {row['variant']}", NOVEL + "contain@50": "novel Contain@50"}
        for key, title in {**titles, "r@5": "R@5, all queries"}.items():
            if number(row, key) is not None:
                share, _, bounds = per_cent(key, with_interval=True)(row).partition(" ")
                cards.append(Card(f"{share} %", title, bounds))
        cards += _against(run, row, baseline) if baseline else []
        if number(row, "answer_p95_ms") is not None:
            cards.append(Card(f"{decimal('answer_p95_ms', 2)(row)} ms", "answer P95", "one query at a time"))
    variants = [row for row in run.rows if row.get("kind") == "variant"]
    ended = sum(row.get("kind") == "variant" for row in run.table.ended)
    cards.append(Card(f"{len(variants) - ended} of {len(variants)}", "variants survived", f"{ended} ended early"))
    if wall := run.timeline.get("wall_s"):
        steps = run.timeline.get("step_share_of_slots")
        note = "" if steps is None else f"{100 * steps:.0f} % of the slots in training steps"
        cards.append(Card(duration(float(wall)), "wall time", note))
    return cards


def _against(run: RunData, row: Row, baseline: Row) -> list[Card]:
    """The difference to the best baseline, with the interval of their pair where they were compared."""
    ours, theirs = number(row, DECISION_METRIC), number(baseline, DECISION_METRIC)
    if ours is None or theirs is None:
        return []
    names = {row["variant"], baseline["variant"]}
    pair = next((pair for pair in run.table.pairs if {pair["a"], pair["b"]} == names), None)
    found = (tested(pair) or {}) if pair else {}
    sign = 1 if pair and pair["a"] == row["variant"] else -1
    low, high = sorted(sign * end for end in found.get("ci", (0.0, 0.0)))
    bounds = f"({points(low)} to {points(high)})" if found else ""
    return [Card(points(ours - theirs), f"points over {baseline['variant']}", bounds)]


def _matrix(pairs: Sequence[Row]) -> dict[str, dict[str, Cell]]:
    """Every pair in both directions: row -> column -> the difference in novel R@5, coloured when it is real."""
    names = dict.fromkeys(name for pair in pairs for name in (pair["a"], pair["b"]))
    matrix: dict[str, dict[str, Cell]] = {a: {b: Cell("", ["·"]) for b in names} for a in names}
    for pair in pairs:
        found = tested(pair) or {}
        for a, b, sign in ((pair["a"], pair["b"], 1.0), (pair["b"], pair["a"], -1.0)):
            low, high = sorted(sign * end for end in found["ci"])
            css = "" if pair["better"] is None else "good" if pair["better"] == a else "bad"
            p = p_value(found["p_holm"])
            detail = f"{points(low)} to {points(high)}; p {p if p.startswith('<') else f'= {p}'}"
            reach = f"detectable {points(found['minimum_detectable']).lstrip('+')}"
            matrix[a][b] = Cell(css, [points(sign * found["difference"]), detail, reach])
    return matrix


def _differences(run: RunData) -> dict[str, list[str]]:
    """Key -> its value in each variant, for the keys in which the variants' entries of config.yaml differ."""
    entries = [_flat(entry or {}) for entry in run.config.get("variants", {}).values()]
    keys = dict.fromkeys(key for entry in entries for key in entry)
    values = {key: [str(entry.get(key, "-")) for entry in entries] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def _flat(entry: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat


def main(argv: list[str] | None = None, prog: str = "python -m evaluation.report") -> int:
    """Command line; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(prog=prog, description="Render a run's tables and report.html from its files.")
    parser.add_argument("run", help="run folder")
    parser.add_argument("--payload", help="folder of the payload; default: the run's")
    args = parser.parse_args(argv)
    try:
        for path in write_all(args.run, args.payload):
            sys.stdout.write(f"{path}\n")
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    return 0
