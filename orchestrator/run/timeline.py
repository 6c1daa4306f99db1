"""Where the wall time went: the driver's phases end to end, and each trial's own seconds (timeline.json)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.io import read_json


class Timeline:
    """Collects phases and trial events of one launch. All times are seconds since its start.

    `earlier`: what the launches before it wrote, when this one continues their run.
    `slots`: how many trials run at once.
    """

    def __init__(self, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        self.earlier: Sequence[Mapping[str, Any]] = earlier
        self.started = time.time()
        self.phases: list[dict[str, Any]] = []
        self.trials: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, float] = {}
        self.events: list[dict[str, Any]] = []
        self.paused = False  # trials came back to a slot: then no end frees it for one other trial
        self.slots = 1

    def phase(self, name: str) -> None:
        """End the current phase, if any, and begin `name`; every second of the run lies in exactly one phase."""
        now = time.time()
        self._close(now)
        self.phases.append({"name": name, "start_s": now - self.started, "seconds": None})

    def _close(self, now: float) -> None:
        if self.phases and self.phases[-1]["seconds"] is None:
            self.phases[-1]["seconds"] = now - self.started - self.phases[-1]["start_s"]

    def mark(self, variant: str, event: str, at: float | None = None) -> None:
        """Record the first time of a trial's event."""
        seconds = (time.time() if at is None else at) - self.started
        self.trials.setdefault(variant, {}).setdefault(event, seconds)

    def update(self, variant: str, event: str) -> None:
        """Record the latest time of a trial's event."""
        self.trials.setdefault(variant, {})[event] = time.time() - self.started

    def event(self, variant: str, what: str, **about: Any) -> None:
        """Note something that happened to a trial beside its course, such as the loss of its node."""
        self.events.append({"at_s": time.time() - self.started, "trial": variant, "event": what, **about})

    def add(self, variant: str, seconds: Mapping[str, float]) -> None:
        """Add one epoch's seconds by phase to a trial."""
        spent = self.trials.setdefault(variant, {}).setdefault("seconds", {})
        for name, value in seconds.items():
            spent[name] = spent.get(name, 0.0) + value

    def summary(self) -> dict[str, Any]:
        """Return timeline.json: phases, trials, and what of the wall time went into training steps."""
        now = time.time()
        self._close(now)
        wall = now - self.started
        training = next((phase["start_s"] for phase in self.phases if phase["name"] == "training"), 0.0)
        freed = {} if self.paused else slot_freed(self.trials, self.slots)
        for name, trial in self.trials.items():
            _account(trial, training, freed.get(name))
        steps = sum(trial.get("seconds", {}).get("step", 0.0) for trial in self.trials.values())
        first_steps = [trial["first_step_s"] for trial in self.trials.values() if "first_step_s" in trial]
        return {
            "wall_s": wall,
            "phases": self.phases,
            "trials": self.trials,
            "slots": self.slots,
            "step_share_of_slots": steps / (self.slots * wall) if wall else 0.0,
            "launch_to_first_step_s": min(first_steps, default=None),
            "gaps_s": [self.trials[name]["first_step_s"] - end for name, end in freed.items()],
            **self.facts,
            "events": self.events,
            "earlier_launches": list(self.earlier),
        }


def earlier_launches(path: Path) -> list[dict[str, Any]]:
    """Return the launches that an existing timeline.json tells of, the oldest first."""
    if not path.is_file():
        return []
    last = read_json(path)
    return [*last.pop("earlier_launches", []), last]


def slot_freed(trials: Mapping[str, Mapping[str, Any]], slots: int) -> dict[str, float]:
    """Return, for each trial that had to wait for a slot, when an earlier trial's end freed it.

    The first `slots` trials to train waited for none; of the rest, the first got the slot that was freed first.
    """
    whole = {name: trial for name, trial in trials.items() if "ended_s" in trial and "first_step_s" in trial}
    # After its last report, an epoch's or its predictions', a trial returns; Tune hears of the end a little later.
    ends = sorted(trial.get("last_report_s", trial["ended_s"]) for trial in whole.values())
    waited = sorted(whole, key=lambda name: float(whole[name]["first_step_s"]))[slots:]
    return dict(zip(waited, ends, strict=False))


def _account(trial: dict[str, Any], training: float, freed: float | None) -> None:
    """Split a trial's time since training began: waiting for a slot, start-up, its measured phases, and the rest.

    Start-up ends where its first epoch begins, not with the first step, whose seconds the epoch measures.
    """
    if "started_s" not in trial or "ended_s" not in trial:
        return
    spent = trial.setdefault("seconds", {})
    first = trial.get("first_epoch_s", trial["ended_s"])
    begun = min(first, trial["started_s"] if freed is None else freed)
    spent["waiting"] = max(0.0, begun - training)
    spent["start_up"] = max(0.0, first - training - spent["waiting"])
    measured = sum(value for name, value in spent.items() if name not in {"waiting", "start_up", "other"})
    spent["other"] = max(0.0, trial["ended_s"] - first - measured)
