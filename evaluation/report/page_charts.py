"""The report's figures, each from the run's data to an HTML figure; one without data is left out."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from evaluation.measures.metrics import K_MAX, hits
from evaluation.report.charts import Axis, Guide, Mark, Series, bar_chart, legend, line_chart, percent, short
from evaluation.report.page_data import RunData
from evaluation.results import Row

LEARNING_METRICS = (("val_mrr", "validation MRR"), ("val_cosine", "validation cosine"), ("val_loss", "validation loss"))
PHASE_WORDS = {"start_up": "start-up", "data": "waiting for data", "step": "training steps", "validate": "validation"}


def figure(title: str, note: str, svg: str, key: str = "") -> str:
    """A captioned chart; empty when the chart is."""
    if not svg:
        return ""
    return f"<figure><figcaption><h3>{escape(title)}</h3>{escape(note)}</figcaption>{svg}{key}</figure>"


def learning_curves(run: RunData) -> list[str]:
    """Validation metrics against windows seen and the first of them against training seconds."""
    found = [(key, name) for key, name in LEARNING_METRICS if any(_points(run, key, "windows_seen").values())]
    figures = [_learning(run, key, name, "windows_seen", "windows seen") for key, name in found]
    if found:
        figures.insert(1, _learning(run, *found[0], "seconds_so_far", "seconds of this trial"))
    return [one for one in figures if one]


def _learning(run: RunData, key: str, name: str, against: str, axis: str) -> str:
    points = _points(run, key, against)
    series = [
        Series(variant, run.colour(variant), found, run.is_baseline(variant))
        for variant, found in points.items()
        if found
    ]
    chart = line_chart(name, series, Axis(axis, short, from_zero=True), Axis(name, _tick))
    return figure(
        f"{name[0].upper()}{name[1:]} by {axis}", "One dot an epoch.", chart, _key(run, [one.name for one in series])
    )


def _points(run: RunData, key: str, against: str) -> dict[str, list[tuple[float, float]]]:
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
    total = 0.0
    for record in records:
        spent = record.get("seconds")
        total += sum(spent.values()) if isinstance(spent, dict) else 0.0
        yield {**record, "seconds_so_far": record.get("train_s", total) if not spent else total}


def smoke_charts(run: RunData) -> list[str]:
    """R@5 and Contain@50 by epoch, with the gates' limits and a cross where a trial was pruned."""
    return [
        one
        for key, title in (("r@5", "Smoke R@5"), ("contain@50", "Smoke Contain@50"))
        if (one := _smoke_chart(run, key, title))
    ]


def _smoke_chart(run: RunData, key: str, title: str) -> str:
    lines = {
        name: [(float(epoch), float(metrics[key])) for epoch, metrics in points if metrics.get(key) is not None]
        for name, points in run.smoke.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    rules = [record for record in run.decisions if str(record.get("rule", "")).split()[:1] == [key]]
    limits = {(record["rule"], record["limit"]) for record in rules if record.get("limit") is not None}
    guides = [Guide(float(limit), str(rule)) for rule, limit in sorted(limits, key=lambda pair: pair[1])]
    marks = [
        Mark(float(record["epoch"]), lines[record["variant"]][-1][1], f"{record['variant']} pruned: {record['reason']}")
        for record in run.decisions
        if record.get("action") == "prune" and record["variant"] in lines
    ]
    series = [Series(name, run.colour(name), points, run.is_baseline(name)) for name, points in lines.items()]
    chart = line_chart(
        title,
        series,
        Axis("epoch", short, from_zero=True, whole=True),
        Axis("%", percent, from_zero=True),
        guides=guides,
        marks=marks,
    )
    note = "On the fixed smoke queries. Dotted: gates. Cross: pruned." if guides or marks else "On the smoke queries."
    return figure(title, note, chart, _key(run, list(lines)))


def recall_chart(run: RunData) -> str:
    """Share of final queries whose target is among the first k, for every k to 50."""
    series = [
        Series(
            name,
            run.colour(name),
            [(float(k), float(hits(arrays["ranks"], k).mean())) for k in range(1, K_MAX + 1)],
            run.is_baseline(name),
        )
        for name, arrays in run.arrays.items()
        if len(arrays["ranks"])
    ]
    chart = line_chart("Recall at k", series, Axis("k", short, from_zero=True), Axis("R@k, %", percent, from_zero=True))
    return figure("Recall at k", "Final queries. Dashed: baselines.", chart, _key(run, list(run.arrays)))


def latency_chart(run: RunData) -> str:
    """Share of single queries answered within a time, with the latency gate."""
    timed = {name: np.sort(arrays["latency_ms"]) for name, arrays in run.arrays.items() if "latency_ms" in arrays}
    shares = np.linspace(0.0, 0.99, 100)
    series = [
        Series(
            name,
            run.colour(name),
            [(float(np.quantile(samples, share)), float(share)) for share in shares],
            run.is_baseline(name),
        )
        for name, samples in timed.items()
        if len(samples)
    ]
    limits = {
        float(gate["limit"])
        for row in run.rows
        for gate in row.get("gates") or []
        if str(gate["rule"]).startswith("p95_ms") and gate.get("limit") is not None
    }
    guides = [Guide(limit, f"gate {limit:g} ms", vertical=True) for limit in sorted(limits)]
    if series:
        guides.append(Guide(0.95, "95 %"))
    chart = line_chart(
        "Search latency", series, Axis("milliseconds", short, from_zero=True), Axis("% of queries", percent),
        guides=guides,
    )  # fmt: skip
    note = "Batch of one, one thread, after warm-up; up to the 99th percentile."
    return figure("Search latency", note, chart, _key(run, list(timed)))


def time_charts(run: RunData) -> list[str]:
    """Seconds by trial and phase, and of the whole run by the driver's phases."""
    spent = {name: _seconds_of(trial) for name, trial in (run.timeline.get("trials") or {}).items()}
    figures = [_time_figure("Where each trial's time went", list(spent.items()))]
    phases = run.timeline.get("phases") or []
    if isinstance(phases, dict):
        phases = [{"name": name, "seconds": seconds} for name, seconds in phases.items()]
    whole = [(str(phase["name"]), float(phase["seconds"] or 0.0)) for phase in phases]
    if whole:
        figures.append(_time_figure("Where the run's time went", [("whole run", dict(whole))]))
    return [one for one in figures if one]


def _seconds_of(trial: Any) -> dict[str, float]:
    spent = trial.get("seconds", trial) if isinstance(trial, dict) else {}
    return {
        PHASE_WORDS.get(name, name): float(value) for name, value in spent.items() if isinstance(value, float | int)
    }


def _time_figure(title: str, bars: Sequence[tuple[str, dict[str, float]]]) -> str:
    totals: dict[str, float] = {}
    for _, parts in bars:
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value
    order = [name for name, value in totals.items() if value > 0.0]
    chart = bar_chart(title, [(label, [(n, parts[n]) for n in order if n in parts]) for label, parts in bars], order)
    key = legend([(f"{name} {totals[name]:.0f} s", place % 8, False) for place, name in enumerate(order)])
    return figure(title, "", chart, f'<div class="blocks">{key}</div>')


def _key(run: RunData, names: Sequence[str]) -> str:
    return legend([(name, run.colour(name), run.is_baseline(name)) for name in names])


def _tick(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else ""
