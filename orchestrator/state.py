"""What is known after each stage of a run: immutable results, each made by one function and handed on to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from data.interrupt import Interrupt
from data.preflight.check import Check
from data.prepare import PreparedData
from orchestrator.cluster.admission import Admission
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.questions import Questions
from orchestrator.run.ledger import Ledger, TrialEnd
from orchestrator.run.timeline import Timeline
from orchestrator.tracking.trackers import Tracking


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What accompanies a launch: where its lines are printed, where its time is noted, whether Ctrl-C was pressed."""

    stream: TextIO
    timeline: Timeline = field(default_factory=Timeline)
    interrupt: Interrupt = field(default_factory=Interrupt)

    def say(self, text: str = "") -> None:
        """Print one line for the person at the terminal."""
        print(text, file=self.stream, flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Checked data and a run folder that this run may use; nothing is written yet."""

    config: ExperimentConfig
    ledger: Ledger
    data: PreparedData
    questions: Questions
    checks: tuple[Check, ...]
    hashes: Mapping[str, str]
    """See `orchestrator.run.manifest.input_hashes`; made once, since files of an index are large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A cluster with what all trials share."""

    admission: Admission
    evaluator: Any
    """Handle of the evaluation actor, which builds the index meanwhile."""
    windows: Any
    """Reference to the row numbers that trials read, see `orchestrator.trials.setup.TrialWindows`."""
    line: Any
    """Reference to the line that `residual: fitted` starts from; None where no variant does."""
    orders: Mapping[int, Any]
    """By training seed a ray.data.Dataset of row numbers of training windows, in the order of every epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The index and what untrained predictions find with it on the smoke queries."""

    index: Mapping[str, Any]
    """What the evaluator says of itself, see `evaluation.service.actor.Evaluator.ready`."""
    baselines: Mapping[str, Mapping[str, float]]
    oracle: Mapping[str, float]
    checks: tuple[Check, ...]
    """Every check of the preflight, those that need the index included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """What is there once the run folder is the run's own."""

    measured: Measured
    tracking: Tracking


class Opening(Protocol):
    """What no trial takes a step without; it is awaited while the processes of the trials start."""

    def is_ready(self) -> bool:
        """Return whether `open` would not wait."""
        ...

    def open(self) -> Opened:
        """Wait for it; the same at every call. PreflightError when a check fails."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How every trial ended, by its name."""

    ends: Mapping[str, TrialEnd]
