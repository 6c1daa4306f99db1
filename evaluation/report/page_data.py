"""What a run folder holds, gathered for the report; what is missing is empty, never an error.

A report is also read after a crash, so only results.json is needed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import UserError
from evaluation.report.table import ComparisonTable
from evaluation.results import Arrays, Row, load_all_arrays, load_results, payload_folder

REFERENCE = "amn"


@dataclass(frozen=True, slots=True)
class RunData:
    """The run's files as plain values; rows in the table's reading order."""

    name: str
    results: Mapping[str, Any]
    table: ComparisonTable
    rows: Sequence[Row]
    epochs: Mapping[str, Sequence[Row]]  # metrics.jsonl by variant
    smoke: Mapping[str, Sequence[tuple[int, Row]]]  # (epoch, metrics) by variant
    arrays: Mapping[str, Arrays]
    decisions: Sequence[Row]
    preflight: Sequence[Row]
    timeline: Mapping[str, Any]
    pairs: Sequence[Row]
    payload: Any | None  # data.payload.store.Payload, for texts

    @property
    def best(self) -> str | None:
        """Name of the best variant."""
        return self.table.best

    def colour(self, name: str) -> int:
        """One colour per row in all charts."""
        return [row["variant"] for row in self.rows].index(name) % 8

    def is_baseline(self, name: str) -> bool:
        """Whether a row is a baseline: drawn dashed."""
        return any(row["variant"] == name and row.get("kind") == "baseline" for row in self.rows)


def load_run(run: str | Path, payload: str | None = None) -> RunData:
    """Read a run folder.

    Raises:
        MissingFileError, UserError: in one line, when there is no readable results.json.
    """
    run = Path(run)
    results = load_results(run)
    table = ComparisonTable.from_results(results)
    rows = [*table.survivors, *table.baselines, *table.ended]
    arrays = load_all_arrays(run, rows)
    names = [row["variant"] for row in rows]
    return RunData(
        name=str(results["protocol"].get("experiment") or run.resolve().name),
        results=results,
        table=table,
        rows=rows,
        epochs={name: _json_lines(run / "variants" / name / "metrics.jsonl") for name in names},
        smoke={name: _smoke(run / "variants" / name) for name in names},
        arrays=arrays,
        decisions=_json_lines(run / "decisions.jsonl"),
        preflight=_preflight(run / "preflight.json"),
        timeline=_json(run / "timeline.json") or {},
        pairs=results.get("pairs") or (),
        payload=_payload(run, payload),
    )


def _payload(run: Path, override: str | None) -> Any | None:
    from data.payload.store import open_payload

    try:
        return open_payload(payload_folder(run, override))
    except UserError:
        if override is not None:
            raise
        return None  # moved since: the report goes without texts


def _smoke(folder: Path) -> list[tuple[int, Row]]:
    found = []
    for path in folder.glob("smoke_epoch*.json"):
        content = _json(path) or {}
        epoch = int(path.stem.removeprefix("smoke_epoch"))
        found.append((epoch, content.get("metrics") or content))
    return sorted(found, key=lambda pair: pair[0])


def _preflight(path: Path) -> list[Row]:
    content = _json(path) or []
    return list(content.get("checks", [])) if isinstance(content, dict) else list(content)


def _json(path: Path) -> Any | None:
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _json_lines(path: Path) -> list[Row]:
    """The lines that are whole: a crash may have cut the last one."""
    if not path.is_file():
        return []
    lines: list[Row] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
