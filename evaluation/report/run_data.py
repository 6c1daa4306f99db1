"""What a run folder holds, gathered for the report; what is missing is empty, never an error.

A report is also read after a crash, so only results.json is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.io import read_json, read_json_lines
from evaluation.queries import QUERIES_FILE, RunQueries, load_queries
from evaluation.report.charts import NUM_COLOURS
from evaluation.report.table import ComparisonTable
from evaluation.results import (
    Arrays,
    Row,
    load_all_arrays,
    load_arrays,
    load_config,
    load_results,
    payload_folder,
    trial_of,
)


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
    single: Mapping[str, Arrays]  # those of the one trial that stands for a row
    queries: RunQueries | None
    decisions: Sequence[Row]
    preflight: Sequence[Row]
    timeline: Mapping[str, Any]
    config: Mapping[str, Any]
    files: Sequence[str]  # names at the top of the run folder
    payload: Any | None  # data.payload.store.Payload, for texts

    def colour(self, name: str) -> int:
        """One colour per row in all charts."""
        return [row["variant"] for row in self.rows].index(name) % NUM_COLOURS

    def is_baseline(self, name: str) -> bool:
        """Whether a row is a baseline: drawn dashed."""
        return any(row["variant"] == name and row.get("kind") == "baseline" for row in self.rows)

    def first(self, kind: str) -> Row | None:
        """The evaluated row of a kind that a reader looks at: the best variant where there is one, else the highest."""
        found = [row for row in self.table.compared if row.get("kind") == kind]
        return next((row for row in found if row["variant"] == self.table.best), found[0] if found else None)


def load_run(run: str | Path, payload: str | None = None) -> RunData:
    """Read a run folder.

    Raises:
        MissingFileError, UserError: in one line, when there is no readable results.json.
    """
    run = Path(run)
    results = load_results(run)
    table = ComparisonTable.from_results(results)
    rows = [*table.compared, *table.ended]
    folders = {row["variant"]: run / "variants" / trial_of(results, row["variant"]) for row in rows}
    arrays = load_all_arrays(run, rows)
    return RunData(
        name=str(results["protocol"].get("experiment") or run.resolve().name),
        results=results,
        table=table,
        rows=rows,
        epochs={name: read_json_lines(folder / "metrics.jsonl", ended=True) for name, folder in folders.items()},
        smoke={name: smoke_records(folder) for name, folder in folders.items()},
        arrays=arrays,
        single={name: arrays[name] if folders[name].name == name else load_arrays(folders[name]) for name in arrays},
        queries=load_queries(run) if (run / QUERIES_FILE).is_file() else None,
        decisions=read_json_lines(run / "decisions.jsonl", ended=True),
        preflight=_json(run / "preflight.json", []),
        timeline=_json(run / "timeline.json", {}),
        config=load_config(run),
        files=[path.name for path in run.iterdir()],
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


def smoke_records(folder: Path) -> list[tuple[int, Row]]:
    """A trial's smoke evaluations, (epoch, metrics)."""
    found = [
        (int(path.stem.removeprefix("smoke_epoch")), read_json(path)["metrics"])
        for path in folder.glob("smoke_epoch*.json")
    ]
    return sorted(found, key=lambda pair: pair[0])


def _json(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.is_file() else otherwise
