"""Runs the trials under Ray Tune and tells ledger, timeline and monitor what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator

from evaluation.ending import Ending
from orchestrator.cluster.start import num_placement_groups
from orchestrator.gates import ended
from orchestrator.run.ledger import Ledger
from orchestrator.run.timeline import Timeline
from orchestrator.screen.monitor import Monitor
from orchestrator.trials.scheduler import GateScheduler
from orchestrator.trials.setup import TrialSetup, from_report
from orchestrator.trials.trial import run_trial

# A Tune trial must hold something: a sliver of the head node, where Ray Train puts its controller too, and no CPU.
_TRIAL_RESOURCES = {"CPU": 0, "node:__internal_head__": 0.001}


class Bookkeeper(tune.Callback):  # type: ignore[misc]
    """Passes Tune's events on; `on_last` is called once, when the last waiting trial has reported."""

    def __init__(
        self,
        ledger: Ledger,
        timeline: Timeline,
        monitor: Monitor,
        *,
        num_trials: int,
        on_last: Callable[[], object],
        check_interrupt: Callable[[], None],
        silence_warning_s: float,
    ) -> None:
        self._ledger, self._timeline, self._monitor = ledger, timeline, monitor
        self._waiting = num_trials
        self._on_last = on_last
        self._check_interrupt = check_interrupt
        self._seen: set[tuple[str, int]] = set()
        self._heard = time.monotonic()
        self._silence_warning_s = silence_warning_s
        self.queue: TrialQueue | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Give Tune's pickle nothing: the run is restored from the ledger."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop turned: when no trial has reported for long, say who holds what, so that a hang is no riddle."""
        self._check_interrupt()
        if time.monotonic() - self._heard < self._silence_warning_s:
            return
        self._heard = time.monotonic()
        free = {name: value for name, value in ray.available_resources().items() if name in {"CPU", "GPU"}}
        self._monitor.say(
            f"warning: no report for {self._silence_warning_s:g} s; free: {free}; "
            f"placement groups holding resources: {num_placement_groups()}; `ray status` shows the nodes"
        )

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A slot was given to a trial."""
        name = trial.config["variant"]
        self._timeline.mark(name, "started_s")
        self._monitor.started(name)
        self._waiting -= 1

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch was reported; Tune repeats a finished function's last report, which is passed over."""
        name, record = trial.config["variant"], from_report(result)
        if record is None or (name, record["epoch"]) in self._seen:
            return
        self._seen.add((name, record["epoch"]))
        self._heard = time.monotonic()
        if record.get("first_step_at"):
            self._timeline.mark(name, "worker_s", record["started_at"])
            self._timeline.mark(name, "first_epoch_s", record["first_epoch_at"])
            self._timeline.mark(name, "first_step_s", record["first_step_at"])
        self._timeline.add(name, record["seconds"])
        self._timeline.update(name, "last_report_s")
        if self.queue is not None:
            self.queue.reported(name)
        if self._waiting == 0:
            self._waiting = -1
            self._on_last()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial returned; without a verdict it failed, whatever Tune thinks."""
        name = trial.config["variant"]
        self._timeline.mark(name, "ended_s")
        if not self._has_verdict(name):
            self._fail(name, "the trial returned before its last epoch")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial raised."""
        name = trial.config["variant"]
        self._timeline.mark(name, "ended_s")
        if self._has_verdict(name):
            # An error while its processes end takes nothing from a trial that was pruned or had finished.
            self._monitor.say(f"  {name}: an error after its end: {last_line(trial.error_file)}")
        else:
            self._fail(name, last_line(trial.error_file))

    def _has_verdict(self, name: str) -> bool:
        end = self._ledger.end_of(name)
        return end is not None and not end.ending.unfinished

    def _fail(self, name: str, reason: str) -> None:
        epochs = self._ledger.variant(name).history()
        epoch = epochs[-1].epoch if epochs else 0
        decision = ended(Ending.FAILED, epoch, "the trial runs to its end", reason)
        self._ledger.record(name, decision)
        self._monitor.decided(name, decision)


class TrialQueue(BasicVariantGenerator):  # type: ignore[misc]
    """Hands trials to Tune: as many as there are slots, then one more that waits for the next free one.

    The waiting trial has its Tune actor and its Train controller running, which hold no CPU, and its workers' placement
    group asked for, so the next training starts as soon as a slot is free. It joins only when the first trials train,
    since until then its start would slow theirs.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(max_concurrent=slots)
        self._slots = slots
        self._reported: set[str] = set()

    def reported(self, name: str) -> None:
        """Note that a trial trains; let the waiting one in when all slots do."""
        self._reported.add(name)
        if len(self._reported) >= self._slots:
            self.max_concurrent = self._slots + 1


def last_line(error_file: str | None) -> str:
    """Return the innermost error of a trial's traceback, one line."""
    if not error_file or not Path(error_file).is_file():
        return "no traceback was kept; see ray.log"
    lines = [line.strip() for line in Path(error_file).read_text(encoding="utf-8").splitlines()]
    named = [line for line in lines if ("Error" in line or "Exception" in line) and ":" in line and "File " not in line]
    return (named or [line for line in lines if line] or ["empty traceback"])[-1][:300]


def run_trials(
    names: Sequence[str],
    setups: Mapping[str, TrialSetup],
    stream: Any,
    *,
    slots: int,
    scheduler: GateScheduler,
    bookkeeper: Bookkeeper,
    storage: Path,
    trackers: Sequence[Any] = (),
) -> None:
    """Run the named trials, `slots` at a time, in this order. Returns when all have ended, whichever way."""
    trainable = tune.with_parameters(run_trial, setups=dict(setups), stream=stream, storage=str(storage / "train"))
    queue = bookkeeper.queue = TrialQueue(slots)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _TRIAL_RESOURCES),
        param_space={"variant": tune.grid_search(list(names))},
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            search_alg=queue,
            # The next trial gets the ended one's Tune actor, which has its imports behind it.
            reuse_actors=True,
            trial_name_creator=lambda trial: str(trial.config["variant"]),
            trial_dirname_creator=lambda trial: str(trial.config["variant"]),
        ),
        run_config=tune.RunConfig(name="tune", storage_path=str(storage), verbose=0, callbacks=[bookkeeper, *trackers]),
    )
    tuner.fit()
