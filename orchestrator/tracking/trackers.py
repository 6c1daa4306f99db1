"""TensorBoard and MLflow where the experiment asks for them: what a person would plot, and nothing internal.

A tracker works in a thread of its own. One that is slow or gone delays no trial and ends no run: it is told about once.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from data.errors import UserError, one_line
from evaluation.ending import Ending
from orchestrator.config.experiment import ExperimentConfig, TrackingConfig
from orchestrator.gates import TrialDecision

INTERNAL = ("epoch", "steps", "started_at", "first_epoch_at", "first_step_at")
FINAL_FILES = ("comparison.md", "comparison.csv", "report.html", "results.json", "config.yaml")
MLFLOW_STATUS = {Ending.FINISHED: "FINISHED", Ending.EARLY_STOPPED: "FINISHED", Ending.FAILED: "FAILED"}


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


class TensorBoard:
    """Event files in `tensorboard/<trial>/` of the run folder."""

    def __init__(self, run: Path, config: ExperimentConfig) -> None:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

        self._make: Callable[[str], Any] = lambda trial: SummaryWriter(str(run / "tensorboard" / trial))
        self._config = config
        self._writers: dict[str, Any] = {}

    def begin(self, trial: str) -> None:
        """Write what the trial is."""
        self._writers[trial] = writer = self._make(trial)
        settings = parameters(self._config, trial)
        writer.add_text("configuration", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def numbers(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write scalars; `@` is no letter of TensorBoard's names."""
        for name, value in metrics.items():
            self._writers[trial].add_scalar(plain_name(name), value, epoch)
        self._writers[trial].flush()

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        """Write how it ended."""
        self._writers[trial].add_text("ending", f"{ending.name}: {reason}")
        self._writers[trial].flush()

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """Write the final figures of every trial's row, and close the files: their own threads write them."""
        for trial, epoch, metrics in final_numbers(results):
            if trial in self._writers:
                self.numbers(trial, epoch, metrics)
        for writer in self._writers.values():
            writer.close()


class MLflow:
    """One run a trial on a tracking server, under the experiment's name."""

    def __init__(self, uri: str, config: ExperimentConfig, tags: Mapping[str, str]) -> None:
        from mlflow import MlflowClient  # type: ignore[import-not-found,unused-ignore]

        self._client, self._config, self._tags = MlflowClient(tracking_uri=uri), config, dict(tags)
        self._runs: dict[str, str] = {}
        self._experiment: str | None = None

    def begin(self, trial: str) -> None:
        """Make the run, with the resolved configuration as parameters."""
        from mlflow.entities import Param  # type: ignore[import-not-found,unused-ignore]

        if self._experiment is None:
            found = self._client.get_experiment_by_name(self._config.name)
            self._experiment = found.experiment_id if found else self._client.create_experiment(self._config.name)
        planned = self._config.trials[trial]
        tags = {**self._tags, "variant": planned.variant.name, "seed": str(planned.seed), "mlflow.runName": trial}
        self._runs[trial] = run = self._client.create_run(self._experiment, tags=tags).info.run_id
        settings = parameters(self._config, trial)
        self._client.log_batch(run, params=[Param(key, str(value)[:500]) for key, value in settings.items()])

    def numbers(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log metrics at a step of the epoch's number."""
        import time

        from mlflow.entities import Metric  # type: ignore[import-not-found,unused-ignore]

        now = int(1000 * time.time())
        logged = [Metric(plain_name(name), value, now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._runs[trial], metrics=logged)

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        """Close the run under its status; a pruned one counts as killed, and its tag says why."""
        self._client.set_tag(self._runs[trial], "ending", ending.name)
        self._client.set_tag(self._runs[trial], "reason", reason[:5000])
        self._client.set_terminated(self._runs[trial], MLFLOW_STATUS.get(ending, "KILLED"))

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """Log final figures, verdicts and files: the tables with each run, weights with that of the best variant."""
        for trial, epoch, metrics in final_numbers(results):
            if trial in self._runs:
                self.numbers(trial, epoch, metrics)
        for row in results["rows"]:
            if (found := self._runs.get(str(row.get("trial")))) is None:
                continue
            self._client.set_tag(found, "verdict", str(row.get("verdict", "")))
            best = ("best/best.pt",) if row["variant"] == results.get("best") else ()
            for name in (*FINAL_FILES, *best):
                if (run / name).is_file():
                    self._client.log_artifact(found, str(run / name))


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
    if tracking.mlflow is not None and find_spec("mlflow") is None:
        raise UserError(
            "tracking.mlflow: expected the package mlflow, got an environment without it; pip install -e '.[mlflow]' "
            "or leave the key out"
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
    return Tracking(trackers, warn)


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
