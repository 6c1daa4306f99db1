"""What the stages of a run share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TextIO

from data.interrupt import Interrupt
from data.preflight.check import Check
from data.prepare import PreparedData
from orchestrator.cluster.admission import Admission
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.final.evaluate import FinalResult
from orchestrator.run.ledger import Ledger
from orchestrator.run.timeline import Timeline


@dataclass(slots=True)
class Run:
    """What the stages share."""

    config: ExperimentConfig
    ledger: Ledger
    timeline: Timeline
    data: PreparedData
    stream: TextIO
    checks: list[Check]
    interrupt: Interrupt = field(default_factory=Interrupt)
    admission: Admission | None = None
    evaluator: Any = None
    predictor: Any = None
    oracle: dict[str, float] | None = None
    smoke_baselines: dict[str, dict[str, float]] | None = None
    index: dict[str, Any] | None = None
    untrained: dict[str, FinalResult] | None = None
    survivors: dict[str, FinalResult] = field(default_factory=dict)

    def say(self, text: str = "") -> None:
        """Print one line for the person at the terminal."""
        print(text, file=self.stream, flush=True)
