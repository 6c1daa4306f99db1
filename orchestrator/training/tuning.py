"""Runs the trials under Ray Tune and tells ledger, timeline and monitor what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.experiment import Trial

from evaluation.ending import Ending
from orchestrator.cluster.start import num_placement_groups
from orchestrator.gates import TrialDecision, ended
from orchestrator.run.ledger import Ledger
from orchestrator.run.progress import Progress
from orchestrator.run.timeline import Timeline
from orchestrator.screen.monitor import Monitor
from orchestrator.training.retries import Retries
from orchestrator.training.scheduler import GateScheduler
from orchestrator.trials.setup import TrialSetup, from_report
from orchestrator.trials.telling import forget
from orchestrator.trials.trial import run_trial

_EVENTS = {"started_at": "worker_s", "first_epoch_at": "first_epoch_s", "first_step_at": "first_step_s"}
ASK_EVERY_S = 1.0
"""How often trials are asked how far they are in their epochs."""
PREDICTED = -1  # stands for the epoch of the last report, which brings the predictions of the test windows
# A Tune trial must hold something: while a worker group holds its own, a sliver of the head node and no CPU.
_GROUP_RESOURCES = {"CPU": 0.0, "node:__internal_head__": 0.001}


class Judge(Protocol):
    """What the bookkeeper asks and tells the judge."""

    @property
    def is_open(self) -> bool:
        """Return whether it answers already."""

    def is_paused(self, name: str) -> bool:
        """Return whether a trial returned to be compared."""

    def is_over(self, name: str) -> bool:
        """Return whether a trial has ended."""

    def give_up(self, name: str) -> None:
        """Start a trial that broke off no more."""

    def end(self, name: str, decision: TrialDecision) -> None:
        """Record an end that no report of the trial called for."""


class Bookkeeper(tune.Callback):  # type: ignore[misc]
    """Passes Tune's events on to ledger, timeline and monitor."""

    def __init__(
        self,
        ledger: Ledger,
        timeline: Timeline,
        monitor: Monitor,
        *,
        judge: Judge,
        retries: Retries,
        every_turn: Callable[[], None],
        told: Callable[[str], Progress | None],
        silence_warning_s: float,
    ) -> None:
        self._ledger, self._timeline, self._monitor = ledger, timeline, monitor
        self._judge, self._retries = judge, retries
        self._every_turn = every_turn
        self._told = told
        self._seen: set[tuple[str, int]] = set()
        self._nodes: dict[str, str | None] = {}  # where each trial last reported from
        self._leaving: dict[str, str] = {}  # trials that have said so, and why
        self._heard = self._asked = time.monotonic()
        self._training: set[str] = set()
        self._silence_warning_s = silence_warning_s
        self.to_start_again: list[str] = []
        """Trials that could not be started, which Tune gives up at once, and that may be tried again."""

    def __getstate__(self) -> dict[str, Any]:
        """Give Tune's pickle nothing: the run is restored from the ledger."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune's loop turned: when no trial has reported for long, say who holds what, so that a hang is no riddle."""
        self._every_turn()
        self._ask_for_progress()
        if not self._judge.is_open:
            self._heard = time.monotonic()  # the trials wait for an index, which may take its time
        if time.monotonic() - self._heard < self._silence_warning_s:
            return
        self._heard = time.monotonic()
        free = {name: value for name, value in ray.available_resources().items() if name in {"CPU", "GPU"}}
        self._monitor.say(
            f"warning: no report for {self._silence_warning_s:g} s; free: {free}; "
            f"placement groups holding resources: {num_placement_groups()}; `ray status` shows the nodes"
        )

    def _ask_for_progress(self) -> None:
        now = time.monotonic()
        if now - self._asked < ASK_EVERY_S:
            return
        self._asked = now
        for name in self._training:
            if (progress := self._told(self._ledger.variant(name).trial)) is not None:
                self._monitor.progressed(name, progress)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A slot was given to a trial."""
        name = trial.config["trial"]
        self._training.add(name)
        self._timeline.mark(name, "started_s")
        self._monitor.started(name)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch was reported; Tune repeats a finished function's last report, which is passed over."""
        # Tune keeps a trial's last result for long; what the judge has written need not stay in the object store.
        result.pop("files", None)
        name, record = trial.config["trial"], from_report(result)
        if record and "leaves" in record:
            self._leaving[name] = record["leaves"]
        elif record and (name, record.get("epoch", PREDICTED)) not in self._seen:
            self._reported(name, record)

    def _reported(self, name: str, record: Mapping[str, Any]) -> None:
        self._seen.add((name, record.get("epoch", PREDICTED)))
        self._nodes[name] = record.get("node") or self._nodes.get(name)
        self._heard = time.monotonic()
        for key, event in _EVENTS.items():
            if record.get(key):
                self._timeline.mark(name, event, record[key])
        self._timeline.add(name, record["seconds"])
        self._timeline.update(name, "last_report_s")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial broke off; Tune would try again for ever, so here it is ended if it was tried often enough."""
        self._goes_on(trial)

    def _goes_on(self, trial: Trial) -> bool:
        """Tell of a trial that broke off, and end it if it was tried often enough; return whether it goes on."""
        name = trial.config["trial"]
        node, reason = self._nodes.get(name), last_line(trial.error_file)
        epoch = self._last_epoch(name)
        if (left := self._leaving.pop(name, None)) is not None:  # its node is being taken away, which is not its fault
            self._monitor.say(f"  {name}: {left}; goes on from there")
            self._timeline.event(name, "left", node=node, reason=left)
            return True
        if not self._retries.again(name, reason, epoch):
            self._judge.give_up(name)
            self._broken(name, reason)
            return False
        what = f"lost on {node}" if node else "lost"
        goes_on = f"after epoch {epoch}" if epoch else "from the start"
        self._monitor.say(f"  {name}: {what} ({reason}); goes on {goes_on}")
        self._timeline.event(name, "lost", node=node, reason=reason)
        return True

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial returned; without a verdict it failed, whatever Tune thinks."""
        name = self._ended(trial.config["trial"])
        if self._judge.is_paused(name):
            self._monitor.paused(name)
            self._timeline.paused = True
        elif not self._judge.is_over(name):
            self._fail(name, "the trial returned before its last epoch")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial could not be started."""
        name = self._ended(trial.config["trial"])
        if self._judge.is_over(name):
            self._broken(name, last_line(trial.error_file))
        elif self._goes_on(trial):
            self.to_start_again.append(name)

    def _broken(self, name: str, reason: str) -> None:
        if self._judge.is_over(name):
            # An error while its processes end takes nothing from a trial that was pruned or had finished.
            self._monitor.say(f"  {name}: an error after its end: {reason}")
        else:
            self._fail(name, reason)

    def _ended(self, name: str) -> str:
        self._training.discard(name)
        self._timeline.update(name, "ended_s")
        return name

    def _last_epoch(self, name: str) -> int:
        epochs = self._ledger.variant(name).history()
        return epochs[-1].epoch if epochs else 0

    def _fail(self, name: str, reason: str) -> None:
        node = self._nodes.get(name)
        reason += f" (on {node})" if node else ""
        self._judge.end(name, ended(Ending.FAILED, self._last_epoch(name), "the trial runs to its end", reason))


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
    orders: Mapping[int, Any],
    *,
    slots: int,
    scheduler: GateScheduler,
    bookkeeper: Bookkeeper,
    storage: Path,
    title: str,
) -> None:
    """Run the named trials, `slots` at a time, in this order. Returns when all have ended, whichever way."""
    trainable = tune.with_parameters(run_trial, setups=dict(setups), orders=orders, storage=str(storage / "train"))
    # What Ray's dashboard calls the actor of each slot, which keeps the name it began with; which trial it holds just
    # now, the title of its process says.
    trainable.__name__ = title
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: _resources_of(setups[config["trial"]])),
        param_space={"trial": tune.grid_search(list(names))},
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            max_concurrent_trials=slots,
            # The next trial gets the process of the one that ended: its imports, its vectors, its GPU context.
            reuse_actors=True,
            trial_name_creator=lambda trial: str(trial.config["trial"]),
            trial_dirname_creator=lambda trial: str(trial.config["trial"]),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            verbose=0,
            callbacks=[bookkeeper],
            failure_config=tune.FailureConfig(max_failures=-1),  # counted by `Retries`, by each trial's own limit
        ),
    )
    told = [setups[name].folder.trial for name in names]
    forget(told)
    try:
        tuner.fit()
    finally:
        forget(told)


def _resources_of(setup: TrialSetup) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial: its slot, or next to nothing where a worker group reserves its own."""
    if setup.training.workers > 1:
        return tune.PlacementGroupFactory([_GROUP_RESOURCES])
    slot = {"CPU": float(setup.cpus_per_worker), "GPU": setup.gpus_per_worker}
    return tune.PlacementGroupFactory([{name: amount for name, amount in slot.items() if amount}])
