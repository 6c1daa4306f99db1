"""The gate scheduler: a thin Tune shell over the pure rules in gates.py.

It decides every stop, once for each (variant, epoch), and records it. The trial's worker, which holds the same rules,
returns by itself at that point, and so its resources come back through Ray Train's own shutdown. A STOP from a
scheduler kills the trial's actors instead; with Ray 2.60 that was seen to leave the workers' placement group behind,
and with reused Tune actors to lose the next trial. STOP is therefore the fallback for a worker that goes on regardless.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Protocol

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.gates import Epoch, StopRules, TrialDecision
from orchestrator.run.ledger import Ledger, epoch_of
from orchestrator.trials.setup import from_report


class Listener(Protocol):
    """Who is told what the scheduler sees and decides, in that order."""

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """A trial reported an epoch."""

    def decided(self, name: str, decision: TrialDecision) -> None:
        """A rule was applied to a trial."""


class GateScheduler(FIFOScheduler):  # type: ignore[misc]
    """Judges every reported epoch and stops the trials that miss their gates."""

    def __init__(self, ledger: Ledger, rules: Mapping[str, StopRules], listener: Listener) -> None:
        super().__init__()
        self._ledger = ledger
        self._rules = rules
        self._listener = listener
        self._history: dict[str, list[Epoch]] = {name: [] for name in rules}
        self._ended: set[str] = set()
        self.num_judged = 0

    def __getstate__(self) -> dict[str, Any]:
        """Give Tune's pickle nothing: the run is restored from the ledger."""
        return {}

    def replay(self) -> None:
        """Take in what the run folder holds, and decide what a crash left undecided."""
        for name in self._rules:
            self.catch_up(name)
            end = self._ledger.end_of(name)
            if end is not None and not end.ending.unfinished:
                self._ended.add(name)

    def catch_up(self, name: str) -> None:
        """Judge the epochs in a trial's folder that no report told of: a worker may die between writing and telling."""
        recorded = self._ledger.recorded_rules(name)
        for epoch in self._ledger.variant(name).history():
            if epoch.epoch > self._last_epoch(name):
                self._history[name].append(epoch)
                self._judge(name, recorded)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Judge what a trial wrote last, before anyone asks how it ended."""
        self.catch_up(trial.config["variant"])

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Judge one epoch of one trial."""
        return self.judge_result(trial.config["variant"], result)

    def judge_result(self, name: str, result: Mapping[str, Any]) -> str:
        """Return CONTINUE, or STOP for a trial that reports beyond its end."""
        record = from_report(result)
        if record is None or record["epoch"] <= self._last_epoch(name):
            # Tune replays a finished function's last result; it was judged when it came.
            return str(TrialScheduler.CONTINUE)
        if name in self._ended:
            return str(TrialScheduler.STOP)
        self._listener.epoch(name, record)
        if record["epoch"] > self._last_epoch(name) + 1:
            self.catch_up(name)
        if record["epoch"] > self._last_epoch(name):
            self._history[name].append(epoch_of(record))
            self._judge(name)
        return str(TrialScheduler.CONTINUE)

    def _last_epoch(self, name: str) -> int:
        history = self._history[name]
        return history[-1].epoch if history else 0

    def _judge(self, name: str, recorded: Set[tuple[int, str]] = frozenset()) -> None:
        self.num_judged += 1
        for decision in self._rules[name].decide(self._history[name]):
            if (decision.epoch, decision.rule) in recorded:
                continue
            self._ledger.record(name, decision)
            self._listener.decided(name, decision)
            if decision.ending:
                self._ended.add(name)

    def debug_string(self) -> str:
        """Return one line for Tune's own display."""
        return f"GateScheduler: {self.num_judged} epochs judged, {len(self._ended)} trials ended"
