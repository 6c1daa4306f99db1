"""The report's figures, each from the run's data; one without data is left out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.measures.metrics import K_MAX, NOVEL, hits
from evaluation.report.charts import (
    NUM_COLOURS,
    Axis,
    Chart,
    Guide,
    Mark,
    Series,
    bar_chart,
    line_chart,
    percent,
    short,
)
from evaluation.report.run_data import RunData
from evaluation.results import Row

LEARNING_METRICS = (
    ("val_soft_r@5", "validation soft R@5"),
    ("val_cosine", "validation cosine"),
    ("val_loss", "validation loss"),
)
Lines = dict[str, list[tuple[float, float]]]
"""Row -> points."""
PHASE_WORDS = {
    "start_up": "start-up",
    "data": "waiting for data",
    "step": "training steps",
    "validate": "validation",
    "predict": "test predictions",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A captioned chart with its legend: name, colour, whether dashed."""

    title: str
    note: str
    chart: Chart
    legend: Sequence[tuple[str, int, bool]]
    blocks: bool = False
    """The legend shows areas, not lines."""


def training_figures(run: RunData) -> list[Figure]:
    """Smoke evaluations by epoch with the gates, then validation by windows seen and by seconds."""
    names = (("r@5", "Smoke R@5"), ("contain@50", "Smoke Contain@50"))
    smoke = [_smoke(run, prefix + key, title) for prefix in (NOVEL, "") for key, title in names]
    known = [(key, title) for key, title in LEARNING_METRICS if any(_points(run, key, "windows_seen").values())]
    curves = [_learning(run, key, title, "windows_seen", "windows seen") for key, title in known]
    by_time = [_learning(run, *one, "seconds_so_far", "seconds of this trial") for one in known[:1]]
    return [one for one in [*smoke, *curves[:1], *by_time, *curves[1:]] if one]


def final_figures(run: RunData) -> list[Figure]:
    """Recall at every k over novel and over all queries, and the latency of single queries."""
    novel = run.queries.novel if run.queries is not None else None
    found = [
        _recall(run, "Recall at k, novel queries", novel) if novel is not None and novel.any() else None,
        _recall(run, "Recall at k, all queries", None),
        _latency(run),
    ]
    return [one for one in found if one]


def time_figures(run: RunData) -> list[Figure]:
    """Seconds by trial and phase, and of the whole run by the driver's phases."""
    spent = {
        name: {PHASE_WORDS.get(phase, phase): seconds for phase, seconds in trial.get("seconds", {}).items()}
        for name, trial in run.timeline.get("trials", {}).items()
    }
    phases = {phase["name"]: float(phase["seconds"] or 0.0) for phase in run.timeline.get("phases", ())}
    found = [
        _time("Where each trial's time went", list(spent.items())),
        _time("Where the run's time went", [("whole run", phases)]),
    ]
    return [one for one in found if one]


def _lines(run: RunData, title: str, note: str, lines: Lines, **drawing: Any) -> Figure | None:
    """A figure of one line a row, baselines dashed; `drawing` is what `line_chart` takes."""
    styles = [(name, run.colour(name), run.is_baseline(name)) for name, points in lines.items() if points]
    chart = line_chart(title, [Series(name, colour, lines[name], dashed) for name, colour, dashed in styles], **drawing)
    return Figure(title, note, chart, styles) if chart else None


def _learning(run: RunData, key: str, name: str, against: str, axis: str) -> Figure | None:
    title = f"{name[0].upper()}{name[1:]} by {axis}"
    x, y = Axis(axis, short, from_zero=True), Axis(name, lambda value: f"{value:.3g}")
    return _lines(run, title, "One dot an epoch.", _points(run, key, against), x=x, y=y)


def _points(run: RunData, key: str, against: str) -> Lines:
    return {
        variant: [
            (float(record[against]), float(record[key]))
            for record in _with_seconds(records)
            if isinstance(record.get(key), float | int) and record.get(against) is not None
        ]
        for variant, records in run.epochs.items()
    }


def _with_seconds(records: Sequence[Row]) -> Iterable[Row]:
    """Add the seconds that all phases of the epochs so far took."""
    so_far = accumulate(sum(record.get("seconds", {}).values()) for record in records)
    return [{**record, "seconds_so_far": seconds} for record, seconds in zip(records, so_far, strict=True)]


def _smoke(run: RunData, key: str, title: str) -> Figure | None:
    """A metric by epoch, with its gates' limits and a cross where a trial was pruned."""
    lines = {
        name: [(float(epoch), float(metrics[key])) for epoch, metrics in points if metrics.get(key) is not None]
        for name, points in run.smoke.items()
    }
    rules = [record for record in run.decisions if str(record.get("rule", "")).split()[:1] == [key]]
    limits = {str(record["rule"]): float(record["limit"]) for record in rules if record.get("limit") is not None}
    guides = [Guide(limit, rule) for rule, limit in limits.items()]
    marks = [
        Mark(float(record["epoch"]), lines[record["variant"]][-1][1], f"{record['variant']} pruned: {record['reason']}")
        for record in run.decisions
        if record.get("action") == "prune" and lines.get(record["variant"])
    ]
    note = "Dotted: gates. Cross: pruned." if guides or marks else ""
    queries = "novel smoke queries" if key.startswith(NOVEL) else "all smoke queries"
    x, y = Axis("epoch", short, from_zero=True, whole=True), Axis("%", percent, from_zero=True)
    return _lines(run, f"{title}, {queries}", note, lines, x=x, y=y, guides=guides, marks=marks)


def _recall(run: RunData, title: str, chosen: npt.NDArray[np.bool_] | None) -> Figure | None:
    lines = {}
    for name, arrays in run.arrays.items():
        ranks = arrays["ranks"] if chosen is None else arrays["ranks"][..., chosen]
        if ranks.size:
            lines[name] = [(float(k), float(hits(ranks, k).mean())) for k in range(1, K_MAX + 1)]
    x, y = Axis("k", short, from_zero=True), Axis("R@k, %", percent, from_zero=True)
    return _lines(run, title, "Final queries. Dashed: baselines.", lines, x=x, y=y)


def _latency(run: RunData) -> Figure | None:
    """Share of single queries answered within a time, to a little beyond the slowest row's P95: outliers and a gate far
    to the right would press all lines against the axis.
    """
    shares = np.linspace(0.0, 1.0, 101)
    timed = {
        name: np.asarray(kept["latency_ms"]) for name, kept in run.arrays.items() if len(kept.get("latency_ms", ()))
    }
    end = 1.3 * max((float(np.quantile(samples, 0.95)) for samples in timed.values()), default=0.0)
    lines = {
        name: [
            (ms, share)
            for ms, share in zip(np.quantile(samples, shares).tolist(), shares.tolist(), strict=True)
            if ms <= end
        ]
        for name, samples in timed.items()
    }
    gates = [gate for row in run.rows for gate in row.get("gates") or () if str(gate["rule"]).startswith("p95_ms ")]
    limits = sorted({float(gate["limit"]) for gate in gates if gate.get("limit") is not None})
    guides = [Guide(limit, f"gate {limit:g} ms", vertical=True) for limit in limits if limit <= end]
    outside = ", ".join(f"{limit:g} ms" for limit in limits if limit > end)
    note = "Batch of one, one thread, after warm-up." + (f" Gate, outside the picture: {outside}." if outside else "")
    x, y = Axis("milliseconds", short, from_zero=True), Axis("% of queries", percent, from_zero=True)
    return _lines(run, "Search latency", note, lines, x=x, y=y, guides=[*guides, Guide(0.95, "95 %")])


def _time(title: str, bars: Sequence[tuple[str, dict[str, float]]]) -> Figure | None:
    totals: dict[str, float] = {}
    for _, parts in bars:
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value
    order = [name for name, value in totals.items() if value > 0.0]
    chart = bar_chart(title, [(label, [(n, parts[n]) for n in order if n in parts]) for label, parts in bars], order)
    key = [(f"{name} {totals[name]:.0f} s", place % NUM_COLOURS, False) for place, name in enumerate(order)]
    return Figure(title, "", chart, key, blocks=True) if chart else None
