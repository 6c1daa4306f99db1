"""The run folder is the state: what is in it, who writes what, and what a relaunch may keep.

The driver is the only writer; what trials report is kept by `orchestrator.run.records`. Whole files are written beside
their place and renamed, so a reader, or a relaunch after a crash, never sees half a file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from data.errors import UserError
from data.io import append_json_line, cut_torn_line, read_json, read_json_lines, write_json, write_text
from data.output import MARKER, made_names, move_aside, write_marker
from evaluation.ending import Ending, ending_of, is_incomplete
from orchestrator.gates import Epoch, TrialDecision

KIND = "run"
"""What a run folder's marker calls it, see data.output."""
MADE = (
    *("config.yaml", "manifest.json", "preflight.json", "queries.npz", "decisions.jsonl", "timeline.json", "ray.log"),
    *("results.json", "comparison.md", "comparison.csv", "comparison.html", "comparison.tex", "report.html"),
    *("search.json", "live.html", "tensorboard", "wandb", "variants", "best", ".best", "mirror.json"),
)
"""All that a run makes in its folder; only this is ever removed with an old run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEnd:
    """How a trial ended, read from decisions.jsonl."""

    ending: Ending
    epoch: int
    reason: str


class VariantFolder:
    """`variants/<variant>/`: one trial's records.

    `run` names the trial of a run, by a hash of configuration and data; each file that a later launch reads carries it.
    None: not known, and nothing is compared.
    """

    def __init__(self, path: Path, run: str | None = None) -> None:
        self.path = path
        self.run = run
        self.metrics = path / "metrics.jsonl"
        self.best = path / "best.pt"
        self.last = path / "last.pt"
        self.before_last = path / "last.prev.pt"
        self.final = path / "final.json"
        self.ranks = path / "ranks.npy"
        self.predicted = path / "predicted.json"
        self.predictions = path / "predictions.npy"

    @property
    def trial(self) -> str:
        """Return the trial's name, which no trial of another run has where `run` is known."""
        return self.run or self.path.name

    def smoke(self, epoch: int) -> Path:
        """Return the path of one smoke evaluation's record."""
        return self.path / f"smoke_epoch{epoch}.json"

    def triage(self, epoch: int) -> list[dict[str, Any]]:
        """Return why a smoke evaluation was so bad that it ended the trial; empty where nobody asked."""
        smoke = self.smoke(epoch)
        found: list[dict[str, Any]] = read_json(smoke).get("triage", []) if smoke.is_file() else []
        return found

    def records(self) -> list[dict[str, Any]]:
        """Return metrics.jsonl, one record an epoch; UserError when it is that of another run."""
        found = read_json_lines(self.metrics)
        for record in found:
            self.check_own(self.metrics, record)
        return found

    def check_own(self, file: Path, content: Mapping[str, Any]) -> None:
        """Refuse what another run, or another trial, has written."""
        found = content.get("run")
        if self.run is not None and found != self.run:
            raise UserError(
                f"{file}: expected what this run wrote ({self.run}), got {found or 'a file that names no run'}; "
                "move the variant's folder away, or start over with --fresh"
            )

    def history(self) -> list[Epoch]:
        """Return what the stop rules need of every recorded epoch."""
        return [epoch_of(record) for record in self.records()]


def epoch_of(record: Mapping[str, Any]) -> Epoch:
    """Return one line of metrics.jsonl as the rules see it."""
    return Epoch(
        epoch=record["epoch"],
        metrics={key: value for key, value in record.items() if isinstance(value, (int, float))},
        smoke=record.get("smoke"),
        diverged=record.get("diverged"),
    )


class Ledger:
    """The run folder: opens, resumes or refuses it, and records decisions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: str | None = None  # a hash of configuration and data, known once they are
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.preflight = path / "preflight.json"
        self.search = path / "search.json"
        self.decisions = path / "decisions.jsonl"
        self.timeline = path / "timeline.json"
        self.results = path / "results.json"
        self.best = path / "best"
        self.log = path / "ray.log"

    def variant(self, name: str) -> VariantFolder:
        """Return the folder of a trial, or of a row of the table (not created)."""
        return VariantFolder(self.path / "variants" / name, f"{self.run}/{name}" if self.run else None)

    def is_complete(self) -> bool:
        """Return whether the run ended with its table and none of its trials failed or was interrupted."""
        rows = read_json(self.results).get("rows", []) if self.results.is_file() else None
        return rows is not None and not is_incomplete(rows)

    def is_claimed(self) -> bool:
        """Return whether a run has made the folder its own."""
        return self.manifest.is_file()

    def check_same(self, resolved: Mapping[str, Any], fingerprint: str, hashes: Mapping[str, str]) -> None:
        """Refuse a folder that was made with another configuration or other inputs; UserError shows the difference.

        `hashes` are those of `orchestrator.manifest.input_hashes`. From here on the ledger knows which run it is.
        """
        identity = json.dumps([fingerprint, sorted(hashes.items())])
        self.run = sha256(identity.encode()).hexdigest()[:16]
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: expected a run folder, got a file; give another --run-dir")
        if not self.is_claimed():
            self.refuse_foreign()
            return
        stored = read_json(self.manifest)
        advice = "give another --run-dir or name, or start over with --fresh"
        if not isinstance(stored, dict) or not isinstance(stored.get("config_sha256"), str):
            raise UserError(
                f"{self.manifest}: expected the manifest of a run, got another file; give another --run-dir"
            )
        if stored["config_sha256"] != fingerprint:
            changes = differences(self.resolved(), resolved) or ["one that another version of this program resolved"]
            raise UserError(f"{self.path}: expected the run's own configuration, got {'; '.join(changes)}; {advice}")
        for key, found in hashes.items():
            if (own := stored.get(key, found)) != found:
                what = key.removesuffix("_sha256")
                raise UserError(
                    f"{self.path}: expected the run's own {what} (sha256 {own[:16]}), got {found[:16]}; {advice}"
                )

    def open(self, resolved: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        """Create the folder with its configuration and manifest, or keep what is there, less what a crash cut short."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.is_claimed():
            write_marker(self.path, KIND, MADE)
            write_text(self.config, yaml.safe_dump(dict(resolved), sort_keys=False))
            write_json(self.manifest, manifest)
        for lines in (self.decisions, *self.path.glob("variants/*/metrics.jsonl")):
            cut_torn_line(lines)

    def resolved(self) -> dict[str, Any]:
        """Return the configuration that the run was made with, every default written out."""
        text = self.config.read_text(encoding="utf-8") if self.config.is_file() else ""
        found: dict[str, Any] = yaml.safe_load(text) or {}
        return found

    def drawn(self) -> Any:
        """Return the settings that a search by generations has drawn so far; none where there is no such search."""
        return read_json(self.search) if self.search.is_file() else {}

    def write_drawn(self, drawn: Mapping[str, Any]) -> None:
        """Keep the settings that a search has drawn, before a trial of them starts."""
        write_json(self.search, drawn)

    def discard_unclaimed(self) -> None:
        """Leave no trace of a launch that ended before the folder was its own; Ray's log is all there is by then."""
        if not self.is_claimed() and self.path.is_dir():
            self.log.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: it was there before
                self.path.rmdir()

    def move_aside(self) -> Path | None:
        """Rename the run folder (`--fresh`) and return its new place; None: there is none. UserError: it is no run.

        Nothing but an older run that stood aside before is removed, and of that only what a run makes.
        """
        if not self.path.is_dir():
            return None
        if made_names(self.path, KIND) is None:
            self.refuse_foreign()
            return None
        return move_aside(self.path, KIND)

    def refuse_foreign(self) -> None:
        """Refuse a folder that no run has claimed and that holds more than a launch which died at once leaves."""
        if not self.path.is_dir():
            return
        # Many projects have a config.yaml or a manifest.json; only a run has our marker beside them.
        others = sorted({path.name for path in self.path.iterdir()} - {self.config.name, self.log.name, MARKER})
        if others:
            raise UserError(
                f"{self.path}: expected a run folder with its mark, {MARKER}, got {', '.join(others[:3])} without one; "
                "give another --run-dir, or move the folder"
            )

    def record(self, variant: str, decision: TrialDecision) -> None:
        """Append one decision."""
        stamp = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "variant": variant}
        append_json_line(self.decisions, {**stamp, **asdict(decision)})

    def decisions_of(self, variant: str) -> list[dict[str, Any]]:
        """Return a variant's decisions, oldest first."""
        return [line for line in read_json_lines(self.decisions) if line["variant"] == variant]

    def end_of(self, variant: str) -> TrialEnd | None:
        """Return how the variant's trial ended; None while it runs or before it began."""
        lines = self.decisions_of(variant)
        ending = ending_of(lines[-1]["action"]) if lines else None
        if ending is None:
            return None
        last = lines[-1]
        same = [line for line in lines if line["action"] == last["action"] and line["epoch"] == last["epoch"]]
        reasons = list(dict.fromkeys(line["reason"] for line in same))
        return TrialEnd(ending=ending, epoch=last["epoch"], reason="; ".join(reasons))

    def verdict_of(self, variant: str) -> TrialEnd | None:
        """Return how the trial ended for good; None while it may still train, as after an error or an interruption."""
        end = self.end_of(variant)
        return None if end is None or end.ending.unfinished else end

    def recorded_rules(self, variant: str) -> set[tuple[int, str]]:
        """Return (epoch, rule) of every decision, so that a relaunch records none of them twice.

        Rules and not epochs: a crash may fall between two rules of one gate, and that a trial failed or was
        interrupted at an epoch says nothing of the rules of that epoch.
        """
        return {(line["epoch"], line["rule"]) for line in self.decisions_of(variant)}


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Return `key: old -> new` for every leaf in which two configurations differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = list(dict.fromkeys([*before, *after]))
        found: list[str] = []
        for key in keys:
            found += differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if before == after else [f"{path}: {_shown(before)} -> {_shown(after)}"]


def _shown(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
