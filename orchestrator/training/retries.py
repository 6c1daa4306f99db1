"""Whether a trial that broke off is tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

NODE_LOST = ("node has died", "is temporarily unavailable")
"""Parts of what Ray says of an actor that went with its node: once it knows of that, and before, when only the
connection to the actor has broken. When a process dies on a node that lives, it says so."""
LOSSES_IN_AN_EPOCH = 3
"""A node may be given the trial once more before Ray has noticed that it is gone."""


class Retries:
    """Counts what speaks against a trial.

    The loss of a node is not the trial's fault and does not count, however often it happens, as long as the trial
    trains an epoch now and then: a trial that takes its nodes down with it must end.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        """`limits`: `training.max_retries` of each trial."""
        self._limits = limits
        self._counted: Counter[str] = Counter()
        self._nodes_lost: Counter[tuple[str, int]] = Counter()

    def again(self, name: str, error: str, epoch: int) -> bool:
        """Note that a trial broke off after an epoch (0: before its first); return whether it is tried again."""
        if any(words in error for words in NODE_LOST) and self._nodes_lost[name, epoch] < LOSSES_IN_AN_EPOCH:
            self._nodes_lost[name, epoch] += 1
        else:
            self._counted[name] += 1
        return self._counted[name] <= self._limits[name]
