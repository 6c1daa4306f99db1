"""Several listeners of the judge as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.gates import TrialDecision


class Listener(Protocol):
    """Is told of every epoch and every decision."""

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """An epoch was reported."""

    def decided(self, name: str, decision: TrialDecision) -> None:
        """A rule was applied."""


class Listeners:
    """Tells each of them, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """An epoch was reported."""
        for listener in self._listeners:
            listener.epoch(name, record)

    def decided(self, name: str, decision: TrialDecision) -> None:
        """A rule was applied."""
        for listener in self._listeners:
            listener.decided(name, decision)
