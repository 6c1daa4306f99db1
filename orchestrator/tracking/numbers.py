"""What trackers are given of a run: what a person would plot, settings and final figures, and nothing internal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.experiment import ExperimentConfig

INTERNAL = ("epoch", "steps", "started_at", "first_epoch_at", "first_step_at")
FINAL_FILES = ("comparison.md", "comparison.csv", "report.html", "results.json", "config.yaml")


def plotted(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch that a person would plot: losses, scores, and its smoke evaluation's metrics."""
    own = {name: value for name, value in record.items() if name not in INTERNAL and _is_number(value)}
    smoke = {f"smoke/{name}": value for name, value in (record.get("smoke") or {}).items() if _is_number(value)}
    seconds = {f"seconds/{name}": value for name, value in (record.get("seconds") or {}).items()}
    return {**own, **smoke, **seconds}


def final_numbers(results: Mapping[str, Any]) -> list[tuple[str, int, dict[str, float]]]:
    """Return trial, best epoch and `final/` metrics of every trained row that was evaluated at the end."""
    return [
        (
            str(row["trial"]),
            int(row.get("best_epoch") or 0),
            {f"final/{key}": value for key, value in row.items() if _is_number(value)},
        )
        for row in results["rows"]
        if row.get("trial") and row.get("evaluated_on") == "final"
    ]


def final_files(results: Mapping[str, Any], run: Path) -> list[tuple[str, str, list[Path]]]:
    """Return trial, verdict and files of every trained row: the tables, and the weights with the best variant."""
    found = []
    for row in results["rows"]:
        if row.get("trial"):
            best = ("best/best.pt",) if row["variant"] == results.get("best") else ()
            files = [run / name for name in (*FINAL_FILES, *best) if (run / name).is_file()]
            found.append((str(row["trial"]), str(row.get("verdict", "")), files))
    return found


def parameters(config: ExperimentConfig, trial: str) -> dict[str, Any]:
    """Return a trial's resolved settings by dotted key: its variant's, and the experiment's less the variants."""
    planned, whole = config.trials[trial], config.resolved()
    own = whole.pop("variants")[planned.variant.name]
    flat = _flat({"variant": own, **whole})
    return {**flat, **{f"variant.{key}": value for key, value in planned.settings.items()}}


def plain_name(name: str) -> str:
    """Return a metric's name in letters that every tracker has: `novel.r@5` is `novel.r_at_5`."""
    return re.sub(r"[^\w\-. /]", "_", name.replace("@", "_at_"))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{path}.{key}" if path else str(key))
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
