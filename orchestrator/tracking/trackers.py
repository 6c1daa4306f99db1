"""TensorBoard, MLflow and Weights & Biases where the experiment asks for them.

A tracker works in a thread of its own. One that is slow or gone delays no trial and ends no run: it is told about once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from data.errors import UserError, one_line
from evaluation.ending import Ending
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.sections import TrackingConfig
from orchestrator.gates import TrialDecision
from orchestrator.tracking.mlflow import MLflow
from orchestrator.tracking.numbers import plotted
from orchestrator.tracking.tensorboard import TensorBoard
from orchestrator.tracking.wandb import WeightsAndBiases


class Tracker(Protocol):
    """One place that gets a run's numbers."""

    def begin(self, trial: str) -> None:
        """A trial reports for the first time."""

    def numbers(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Numbers of an epoch."""

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        """A trial has ended."""

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """The run has its table."""


class Tracking:
    """All trackers of a run, behind one thread; takes what the judge tells its listeners."""

    def __init__(self, trackers: list[Tracker], warn: Callable[[str], None]) -> None:
        self._trackers, self._warn, self._warned = trackers, warn, False
        self._begun: set[str] = set()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        if trackers:
            self._thread.start()

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """An epoch was reported."""
        metrics = plotted(record)
        self._begin(name)
        self._each(lambda tracker: tracker.numbers(name, record["epoch"], metrics))

    def decided(self, name: str, decision: TrialDecision) -> None:
        """A rule was applied; how far a metric was from its limit is a number to plot."""
        self._begin(name)
        if (margin := decision.margin) is not None:
            metric = decision.rule.split()[0]
            self._each(lambda tracker: tracker.numbers(name, decision.epoch, {f"gate_margin/{metric}": margin}))
        if (ending := decision.ending) is not None:
            self._each(lambda tracker: tracker.end(name, ending, decision.reason))

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """The run has its table; waits until all is sent, and not longer than a minute."""
        self._each(lambda tracker: tracker.finish(results, run))
        self._work.put(None)
        if self._trackers:
            self._thread.join(timeout=60)

    def _begin(self, name: str) -> None:
        if name not in self._begun:
            self._begun.add(name)
            self._each(lambda tracker: tracker.begin(name))

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for tracker in self._trackers:
            self._work.put(lambda tracker=tracker: act(tracker))  # type: ignore[misc]

    def _run(self) -> None:
        while (act := self._work.get()) is not None:
            try:
                act()
            except Exception as error:  # a tracker's fault is not the run's
                if not self._warned:
                    self._warn(f"warning: tracking: {type(error).__name__}: {one_line(error)}; the run goes on")
                self._warned = True


def check_tracking(tracking: TrackingConfig) -> None:
    """Refuse a tracker whose library is missing; UserError says what to install."""
    for name in ("mlflow", "wandb"):
        if getattr(tracking, name) is not None and find_spec(name) is None:
            raise UserError(
                f"tracking.{name}: expected the package {name}, got an environment without it; "
                f"pip install -e '.[{name}]' or leave the key out"
            )


def make_tracking(
    config: ExperimentConfig, run: Path, tags: Mapping[str, str], warn: Callable[[str], None]
) -> Tracking:
    """Return the trackers that the experiment asks for; `warn` is told once when one of them fails."""
    trackers: list[Tracker] = []
    if config.tracking.tensorboard:
        trackers.append(TensorBoard(run, config))
    if config.tracking.mlflow is not None:
        trackers.append(MLflow(config.tracking.mlflow, config, tags))
    if config.tracking.wandb is not None:
        trackers.append(WeightsAndBiases(config.tracking.wandb, run, config, tags))
    return Tracking(trackers, warn)
