"""Where a trial is inside an epoch, so that it can go on there on another node.

A node that is to be taken away, as a spot machine is, says so some seconds or minutes before. Waiting for the end of an
epoch, which may take an hour, would lose what was trained of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import ray
from ray._private.state import state as cluster_state
from ray.exceptions import RpcError

ASK_EVERY_S = 1.0
AGREE_EVERY = 16
"""Steps after which the workers of a group ask each other: they must leave after the same one."""


class NodeDrainsError(RuntimeError):
    """The trial has left its node, which is being taken away; it is no fault of the trial."""


@dataclass(slots=True)
class Inside:
    """What an unfinished epoch has given so far: steps, sums of what they returned, seconds by phase."""

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, result: Mapping[str, float]) -> None:
        """Count a step and what it returned."""
        self.steps += 1
        for name, value in result.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Return the means over the steps; nothing before the first."""
        return {name: value / self.steps for name, value in self.sums.items()}


class DrainNotice:
    """Says whether this process's node is being taken away; asks the cluster's head at most once a second."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None

    def came(self) -> bool:
        """Return whether the node was draining when that was asked last, now if a second has passed."""
        now = time.monotonic()
        if self._node is None or now - self._asked < ASK_EVERY_S:
            return False
        self._asked = now
        try:
            return self._node in cluster_state.get_draining_nodes()
        except RpcError:  # a head that does not answer ends no training
            return False
