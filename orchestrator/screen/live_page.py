"""live.html: a run while it trains, from the files that are there so far; the browser loads it anew by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.io import read_json_lines
from evaluation.report.figures import training_figures
from evaluation.report.render import TEMPLATES
from evaluation.report.run_data import RunData, smoke_records
from evaluation.report.table import ComparisonTable
from evaluation.results import Row

REFRESH_S = 10


class LiveTrial(NamedTuple):
    """One line of the table of trials, as text."""

    name: str
    state: str
    epoch: str
    loss: str
    novel: str
    contain: str
    steps: str
    left: str
    node: str
    why: str


def live_page(
    run: Path, title: str, since: str, trials: Sequence[LiveTrial], baselines: Mapping[str, Mapping[str, float]]
) -> str:
    """Return the page: trials, curves with the baselines' smoke figures as lines, the last decisions.

    `baselines`: their metrics on the smoke queries, drawn from the first to the last smoke epoch.
    """
    data = _data(run, title, [trial.name for trial in trials], baselines)
    return TEMPLATES.get_template("live.html.j2").render(
        title=title,
        since=since,
        refresh=REFRESH_S,
        trials=trials,
        figures=training_figures(data),
        decisions=[*reversed(data.decisions)][:20],
    )


def done_page(title: str) -> str:
    """Return what stands in the place of the page when the run has ended: it leads on to the report."""
    return TEMPLATES.get_template("done.html.j2").render(title=title)


def _data(run: Path, title: str, names: Sequence[str], baselines: Mapping[str, Mapping[str, float]]) -> RunData:
    rows: list[Row] = [{"variant": name, "kind": "variant", "status": "RUNNING"} for name in names]
    rows += [{"variant": name, "kind": "baseline", "status": "FINISHED"} for name in baselines]
    folders = {name: run / "variants" / name for name in names}
    smoke: dict[str, Sequence[tuple[int, Any]]] = {name: smoke_records(folder) for name, folder in folders.items()}
    epochs = sorted({epoch for records in smoke.values() for epoch, _ in records})
    if epochs:
        smoke |= {name: [(epoch, metrics) for epoch in {0, epochs[-1]}] for name, metrics in baselines.items()}
    results: dict[str, Any] = {"protocol": {}, "rows": rows}
    return RunData(
        name=title,
        results=results,
        table=ComparisonTable.from_results(results),
        rows=rows,
        epochs={name: read_json_lines(folder / "metrics.jsonl") for name, folder in folders.items()},
        smoke=smoke,
        arrays={},
        single={},
        queries=None,
        decisions=read_json_lines(run / "decisions.jsonl"),
        preflight=[],
        timeline={},
        config={},
        files=[],
        payload=None,
    )
