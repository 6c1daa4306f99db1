"""What a trial is given, what it reports and what it is answered. All of it can be pickled; none of it needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.io import plain
from data.payload.keys import Int32
from orchestrator.config.experiment import Variant
from orchestrator.config.sections import TrainingConfig
from orchestrator.gates import EarlyStopping
from orchestrator.run.ledger import VariantFolder

Verdict = Literal["continue", "survived", "ended"]
"""The judge's answer to a report: train on; the trial is over and its best weights predict the test windows; over."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TrialWindows:
    """Row numbers that all trials share, (number, L + 1) int32 each; one copy a node, in the object store."""

    train: Int32
    val: Int32
    val_novel: NDArray[np.bool_]
    """(len(val),)"""
    smoke: Int32
    test: Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSetup:
    """Everything that a trial needs. It holds no rule that could end it: the judge in the driver does.

    name: of the trial, in reports and in the run folder. seed: of weights, dropout and the order of the windows.
    payload_path: the payload's folder; a node that does not see it gets the vectors from the object store.
    windows: reference to `TrialWindows`. line: reference to `orchestrator.trials.learner.Line`; None where no variant
    starts from it. evaluator: handle of the evaluation actor, which also reads the run folder.
    last, best: paths of the trial's checkpoints in the run folder, as the driver's node sees them.
    selection: which epoch's weights are the best. pauses: epochs after which a search may let the trial wait.
    """

    name: str
    variant: Variant
    seed: int
    payload_path: Path
    windows: Any
    line: Any
    smoke_epochs: tuple[int, ...]
    smoke_latency_queries: int
    selection: EarlyStopping
    pauses: tuple[int, ...]
    device: str
    cpus_per_worker: int
    gpus_per_worker: float
    placement: Literal["pack", "spread"]
    evaluator: Any
    provenance: dict[str, str]
    last: Path
    best: Path

    @property
    def training(self) -> TrainingConfig:
        """Return the variant's training settings."""
        return self.variant.training

    @property
    def folder(self) -> VariantFolder:
        """Return the trial's part of the run folder, as the driver's node sees it."""
        return VariantFolder(self.last.parent, self.provenance.get("run"))


def to_report(record: Mapping[str, Any], files: Mapping[str, Any], number: str) -> dict[str, Any]:
    """Return what a trial reports: its numbers for other programs, the whole record as text, and files by reference.

    Tune flattens nested results with "/" for its scheduler, and not for its callbacks; text and lists stay as they are.
    `number` is the report's own name, under which it is answered.
    """
    clean = plain(record)
    numbers = {name: value for name, value in clean.items() if isinstance(value, (int, float))}
    return {**numbers, "record": json.dumps(clean), "files": [*files.items()], "report": number}


def from_report(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record in a report; None in the reports that Tune makes up itself."""
    text = result.get("record")
    return None if text is None else json.loads(text)


def files_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the references of a report's files by name."""
    return dict(result.get("files") or ())
