"""How a trial can end: the one table from which everything that tells ends apart is derived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any


class Ending(StrEnum):
    """How a trial ended: its value is the action in decisions.jsonl, its name the status in results.json."""

    FINISHED = "finish"
    EARLY_STOPPED = "early_stop"
    PRUNED = "prune"
    HALVED = "halve"
    """Others of its variant's search were better on validation."""
    DIVERGED = "diverge"
    FAILED = "fail"
    INTERRUPTED = "interrupt"
    NOT_STARTED = "skip"
    """An earlier stage missed its gates, so this trial was not tried."""

    @property
    def word(self) -> str:
        """Return the name as a person reads it."""
        return self.name.lower().replace("_", " ")

    @property
    def survived(self) -> bool:
        """Whether the trial is evaluated at the end and may be the best."""
        return self in {Ending.FINISHED, Ending.EARLY_STOPPED}

    @property
    def retried(self) -> bool:
        """Whether a run with such a trial is not complete: the same command goes on with it."""
        return self in {Ending.FAILED, Ending.INTERRUPTED}

    @property
    def unfinished(self) -> bool:
        """Whether the trial may still train; the other ends are verdicts."""
        return self.retried or self is Ending.NOT_STARTED


RETRIED = tuple(ending.name for ending in Ending if ending.retried)
"""The statuses of rows that make a run incomplete."""

SURVIVED = tuple(ending.name for ending in Ending if ending.survived)
"""The statuses of rows that were evaluated at the end."""


def is_incomplete(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a row of results.json, or a trial of one, failed or was interrupted: the same command goes on."""
    return any(one["status"] in RETRIED for row in rows for one in (row, *trials_in(row)))


def trials_in(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the trials behind a row of results.json, under several seeds or of a search; none where it is its own."""
    return row.get("search") or row.get("seeds") or ()


def ending_of(action: str) -> Ending | None:
    """Return how a trial ends by an action of decisions.jsonl; None where it goes on."""
    return Ending(action) if action in set(Ending) else None
