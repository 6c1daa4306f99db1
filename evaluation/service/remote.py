"""The evaluator as Ray starts it: a class that every process may load, since only the actor's own imports FAISS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _method(name: str) -> Callable[..., Any]:
    def call(self: RemoteEvaluator, *arguments: Any, **options: Any) -> Any:
        return getattr(self.evaluator, name)(*arguments, **options)

    call.__name__ = name
    return call


class RemoteEvaluator:
    """Has the methods of `evaluation.service.actor.Evaluator` that others call through a handle.

    Ray loads an actor's class wherever a handle of it arrives: in the driver, and in trials beside torch.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make an evaluator of the same arguments."""
        from evaluation.service.actor import Evaluator

        self.evaluator = Evaluator(*arguments, **options)

    ready = _method("ready")
    share_payload = _method("share_payload")
    read_file = _method("read_file")
    line = _method("line")
    baselines = _method("baselines")
    reach = _method("reach")
    evaluate = _method("evaluate")
    latencies = _method("latencies")
    time_again = _method("time_again")
    triage = _method("triage")
