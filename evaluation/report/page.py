"""report.html: one self-contained page about a run, without a network, light or dark as the reader's system is.

python -m evaluation.report RUN [--payload FOLDER]
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.errors import UserError
from evaluation.report import page_charts
from evaluation.report import render as rendered
from evaluation.report.columns import number, per_cent
from evaluation.report.page_data import REFERENCE, RunData, load_run
from evaluation.report.page_queries import queries_section
from evaluation.report.page_style import SCRIPT, STYLE
from evaluation.results import Row

VERDICT_BADGE = {"SUCCESS": "good", "PRODUCTION READY": "good", "TIE": "tie", "REJECT": "bad"}
REPORT_FILE = "report.html"


def write_report(run: str | Path, payload: str | None = None) -> Path:
    """Render a run folder into its report.html; return the path.

    Raises:
        MissingFileError, UserError: in one line, when the run has no readable results.
    """
    path = Path(run) / REPORT_FILE
    part = path.with_name(path.name + ".part")
    part.write_text(render(load_run(run, payload)), encoding="utf-8")
    part.replace(path)
    return path


def render(run: RunData) -> str:
    """The whole page."""
    sections = [(title, body) for title, body in _sections(run) if body]
    links = "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title, _ in sections)
    body = "".join(
        f'<section><h2 id="{_anchor(title)}">{escape(title)}</h2>{html}</section>' for title, html in sections
    )
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.name)}: {escape(run.table.headline)}</title><style>{STYLE}</style>"
    )
    main = f"<main>{_top(run)}<nav>{links}</nav>{body}{_protocol(run)}</main>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{main}<script>{SCRIPT}</script></body></html>\n'


def _sections(run: RunData) -> list[tuple[str, str]]:
    tables = {section.title: _scroll(rendered.html(section)) for section in run.table.sections}
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in run.table.footnotes[:-1])
    return [
        ("Comparison", tables.get("Comparison", "")),
        ("Verdicts", tables.get("Verdicts", "")),
        ("Ended early", tables.get("Ended early", "")),
        ("Pairs", _matrix(run)),
        ("While training", _figures([*page_charts.smoke_charts(run), *page_charts.learning_curves(run)])),
        ("Retrieval and latency", _figures([page_charts.recall_chart(run), page_charts.latency_chart(run)])),
        ("Time", _figures(page_charts.time_charts(run))),
        ("More figures", tables.get("More figures", "") + notes),
        ("Queries", _queries(run)),
        ("Preflight", _preflight(run)),
    ]


def _top(run: RunData) -> str:
    best = next((row for row in run.rows if row["variant"] == run.best), None)
    word = str((best or {}).get("verdict") or ("NO SURVIVOR" if best is None else ""))
    badge = f'<span class="badge {VERDICT_BADGE.get(word, "bad")}">{escape(word)}</span>' if word else ""
    why = str((best or {}).get("verdict_why") or run.table.verdict)
    why = "" if why == word else why
    return (
        f'<p class="soft">{escape(run.name)}</p><h1>{escape(run.table.headline)} {badge}</h1>'
        f'<p class="lead">{escape(why)}</p><div class="cards">{"".join(_cards(run, best))}</div>'
    )


def _cards(run: RunData, best: Row | None) -> list[str]:
    cards = []
    if best is not None:
        cards.append(_card(per_cent("r@5")(best) + " %", "R@5 of the best", _interval(best, "r@5")))
        cards.append(_card(per_cent("contain@50")(best) + " %", "Contain@50", _interval(best, "contain@50")))
        cards += [_ratio(run, best, name) for name in (REFERENCE, "last_vector")]
        if (p95 := number(best, "p95_ms")) is not None:
            cards.append(_card(f"{p95:.2f} ms", "search P95", "one query at a time"))
    ended, total = len(run.table.ended), len([row for row in run.rows if row.get("kind") == "variant"])
    survivors = len(run.table.survivors)
    cards.append(_card(f"{survivors} of {total}", "variants survived", f"{ended} ended early"))
    if run.timeline.get("wall_s"):
        share = run.timeline.get("step_share_of_slots")
        note = "" if share is None else f"{100 * share:.0f} % of the slots in training steps"
        cards.append(_card(_duration(float(run.timeline["wall_s"])), "wall time", note))
    return [card for card in cards if card]


def _ratio(run: RunData, best: Row, name: str) -> str:
    other = next((row for row in run.rows if row["variant"] == name), None)
    ours, theirs = number(best, "r@5"), number(other or {}, "r@5")
    if ours is None or not theirs:
        return ""
    return _card(f"{ours / theirs:.2f} ×", f"R@5 over {name}", f"which has {100 * theirs:.1f} %")


def _interval(row: Row, key: str) -> str:
    text = per_cent(key, interval=True)(row)
    return text.partition("(")[2].rstrip(")").replace("-", " to ") if "(" in text else ""


def _card(value: str, title: str, note: str) -> str:
    return f'<div class="card"><span>{escape(title)}</span><b>{escape(value)}</b><span>{escape(note)}</span></div>'


def _matrix(run: RunData) -> str:
    """Every pair in both directions: the difference in R@5, row minus column, coloured when it is real."""
    names = list(dict.fromkeys(name for pair in run.pairs for name in (pair["a"], pair["b"])))
    if not names:
        return ""
    cells = {(pair["a"], pair["b"]): (pair, 1.0) for pair in run.pairs}
    cells |= {(pair["b"], pair["a"]): (pair, -1.0) for pair in run.pairs}
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><td>{escape(a)}</td>{''.join(_matrix_cell(cells.get((a, b)), a) for b in names)}</tr>" for a in names
    )
    note = (
        "R@5 of the row minus the column, in points, with the paired 95 % interval and Holm's p. Coloured where the "
        "two can be told apart; the rest is a tie, and “detectable” is what these queries could have revealed."
    )
    table = f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<p class="soft lead">{note}</p>{_scroll(table)}'


def _matrix_cell(found: tuple[Mapping[str, Any], float] | None, row_name: str) -> str:
    if found is None:
        return "<td>·</td>"
    pair, sign = found
    tested = pair["metrics"]["r@5"]
    low, high = sorted(sign * end for end in tested["ci"])
    kind = "" if pair["better"] is None else "good" if pair["better"] == row_name else "bad"
    p = "p < 0.001" if tested["p_holm"] < 0.001 else f"p {tested['p_holm']:.3f}"
    detail = f"{100 * low:+.1f} to {100 * high:+.1f}; {p}"
    reach = f"detectable {100 * tested['minimum_detectable']:.1f}"
    points = f"{100 * sign * tested['difference']:+.1f}"
    return f'<td class="{kind}">{points}<small>{escape(detail)}</small><small>{reach}</small></td>'


def _queries(run: RunData) -> str:
    intro = "Drawn evenly from those that only the best, only the reference, both and neither answer within five."
    return f'<p class="soft">{intro}</p>{queries_section(run)}'


def _preflight(run: RunData) -> str:
    if not run.preflight:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(check['name']))}</td>"
        f'<td class="right">{_value(check.get("value"))}</td>'
        f'<td class="right">{escape(str(check.get("relation") or ""))} {_value(check.get("limit"))}</td>'
        f"<td>{_check_badge(check)}</td>"
        f'<td class="wide">{escape(str(check.get("detail") or ""))}</td></tr>'
        for check in run.preflight
    )
    head = '<th>check</th><th class="right">value</th><th class="right">limit</th><th></th><th>of</th>'
    return _scroll(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _check_badge(check: Row) -> str:
    if check.get("waived"):
        return '<span class="badge tie">waived</span>'
    if check.get("limit") is None:
        return '<span class="badge">reported</span>'
    if check.get("warning") and not check.get("passed"):
        return '<span class="badge tie">warning</span>'
    return '<span class="badge good">passed</span>' if check.get("passed") else '<span class="badge bad">failed</span>'


def _value(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _protocol(run: RunData) -> str:
    items = "".join(
        f"<dt>{escape(str(key))}</dt><dd>{escape(_flat(value))}</dd>"
        for key, value in run.results["protocol"].items()
        if value not in (None, "", [], {})
    )
    return f"<footer><h2>Protocol</h2><dl>{items}</dl></footer>"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_flat(inner) for inner in value)
    return str(value)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _figures(figures: Sequence[str]) -> str:
    found = [one for one in figures if one]
    return f'<div class="figures">{"".join(found)}</div>' if found else ""


def _scroll(table: str) -> str:
    return f'<div class="scroll">{table}</div>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.report", description=__doc__)
    parser.add_argument("run", help="run folder")
    parser.add_argument("--payload", help="folder of the payload; default: the run's")
    args = parser.parse_args(argv)
    try:
        path = write_report(args.run, args.payload)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{path}\n")
    return 0
