"""`search.budget: {seconds: ...}` while it is spent: each trial that goes on has its share of what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evaluation.ending import Ending
from orchestrator.config.budget import counts, planned_cost
from orchestrator.config.experiment import ExperimentConfig, PlannedTrial
from orchestrator.gates import TrialDecision, ended
from orchestrator.run.ledger import Ledger

RULE = "search.budget.seconds"


class Spending:
    """Says when a trial's share of its variant's seconds is spent; they are those of data and steps, as the table's.

    Until the last halving epoch every setting trains as long as every other. What is left then is divided among those
    that go on. Of several generations each has the part that its number of settings asks for.
    """

    def __init__(self, config: ExperimentConfig, ledger: Ledger) -> None:
        search = config.search
        self._trials = config.trials if counts(config, "seconds") else {}
        self._config, self._ledger = config, ledger
        self._shares: dict[tuple[str, int], float] = {}
        self._rung = search.halving[-1] if search is not None and search.halving else 0

    def decide(self, name: str) -> TrialDecision | None:
        """Return the end of a trial of which the next epoch would lie more outside its share than in it."""
        trial = self._trials.get(name)
        if trial is None:
            return None
        records = self._ledger.variant(name).records()
        own = seconds(record for record in records if record["epoch"] > self._rung)
        num = sum(record["epoch"] > self._rung for record in records)
        if num == 0:
            return None
        together = (trial.variant.name, trial.generation)
        if together not in self._shares:  # after the last comparison it does not change
            self._shares[together] = self._share(trial)
        share = self._shares[together]
        if own + own / num / 2 < share:
            return None
        reason = f"its share of the search's seconds is spent: {own:.0f} of {share:.0f} s"
        return ended(Ending.FINISHED, records[-1]["epoch"], RULE, reason)

    def _share(self, trial: PlannedTrial) -> float:
        together = [
            one
            for one in self._trials.values()
            if one.variant.name == trial.variant.name and one.generation == trial.generation
        ]
        records = {one.name: self._ledger.variant(one.name).records() for one in together}
        before = sum(seconds(r for r in found if r["epoch"] <= self._rung) for found in records.values())
        ends = {one.name: self._ledger.verdict_of(one.name) for one in together}
        # Those that a rule ended later have left their share unspent.
        going = [name for name, end in ends.items() if end is None or end.epoch > self._rung]
        return (self._allowance(trial) - before) / max(1, len(going))

    def _allowance(self, trial: PlannedTrial) -> float:
        """Return the seconds of the trial's generation."""
        search = self._config.search
        assert search is not None and search.budget is not None
        sizes, epochs = self._config.generations_of(trial.variant.name), trial.variant.training.epochs
        costs = [planned_cost([1.0] * size, search.halving, epochs)[0] for size in sizes]
        return search.budget.amount * costs[trial.generation - 1] / sum(costs)


def seconds(records: Iterable[Mapping[str, Any]]) -> float:
    """Return the seconds of training in the records of epochs."""
    found: float = sum(record["seconds"].get(part, 0.0) for record in records for part in ("data", "step"))
    return found
