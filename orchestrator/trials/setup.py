"""What a trial is given and what it reports, picklable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.experiment import TrainingConfig, Variant
from orchestrator.gates import EarlyStopping, StopRules


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSetup:
    """Everything a trial's worker needs, picklable.

    folder, windows_path: the variant's folder and that of the window tables, on storage that every node sees.
    payload_path: the payload's folder; a node that does not see it gets the vectors from the object store.
    selection: which epoch's weights best.pt holds. evaluator: handle of the evaluation actor.
    """

    variant: Variant
    folder: Path
    payload_path: Path
    windows_path: Path
    seed: int
    smoke_epochs: tuple[int, ...]
    num_smoke_queries: int
    smoke_latency_queries: int
    latency_limits_ms: dict[int, float]
    rules: StopRules
    selection: EarlyStopping
    device: str
    cpus_per_worker: int
    gpus_per_worker: float
    evaluator: Any
    provenance: dict[str, str]

    @property
    def training(self) -> TrainingConfig:
        """Return the variant's training settings."""
        return self.variant.training


def to_report(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker reports of an epoch: its numbers for Tune's own displays, and the whole record as text.

    Tune flattens nested results with "/" for its scheduler, and not for its callbacks; text stays as it is.
    """
    numbers = {name: value for name, value in record.items() if isinstance(value, (int, float))}
    return {**numbers, "record": json.dumps(record)}


def from_report(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record in a report; None in the reports that Tune makes up itself."""
    text = result.get("record")
    return None if text is None else json.loads(text)
