"""How far a trial is inside its epoch: a few numbers in the cluster's own table, renewed while it trains.

Nothing is decided by them; they are for people, for whom an epoch may take hours. So a table that does not answer ends
no training. A trial is named by its folder's `run`: the same variant may train in another run on the same cluster.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict

from ray._raylet import getproctitle, setproctitle  # type: ignore[attr-defined]
from ray.exceptions import RpcError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from orchestrator.run.progress import Progress

_NAMESPACE = b"next-vector-progress"
TELL_EVERY_S = 1.0


class Teller:
    """Tells how far one epoch of a trial is, at most once a second."""

    def __init__(self, trial: str, *, epoch: int, steps: int, batch_size: int, begun_at: int = 0) -> None:
        """`begun_at`: the steps of the epoch that an earlier attempt has done."""
        self._trial, self._epoch, self._steps, self._batch_size = trial, epoch, steps, batch_size
        self._begun_at = begun_at
        self._began = self._told = time.monotonic()

    def tell(self, step: int, sum_of_losses: float) -> None:
        """Note a step that is done."""
        now = time.monotonic()
        if now - self._told < TELL_EVERY_S:
            return
        self._told = now
        # Seen in `ps`, `top` and the list of a node's workers in Ray's dashboard, behind the title that Ray gave it.
        setproctitle(f"{getproctitle().partition(' ')[0]} {self._trial.rpartition('/')[2]} epoch {self._epoch}")
        seconds = now - self._began
        progress = Progress(
            epoch=self._epoch,
            step=step,
            steps=self._steps,
            loss=sum_of_losses / step,
            windows_per_second=(step - self._begun_at) * self._batch_size / seconds,
            seconds=seconds,
        )
        content = json.dumps(asdict(progress)).encode()
        with contextlib.suppress(RpcError):
            _internal_kv_put(self._trial.encode(), content, overwrite=True, namespace=_NAMESPACE)


def told(trial: str) -> Progress | None:
    """Return what a trial told last; None before it told anything."""
    found = None
    with contextlib.suppress(RpcError):
        found = _internal_kv_get(trial.encode(), namespace=_NAMESPACE)
    return None if found is None else Progress(**json.loads(found))


def forget(trials: Iterable[str]) -> None:
    """Remove what trials have told; a cluster may outlive them."""
    for trial in trials:
        with contextlib.suppress(RpcError):
            _internal_kv_del(trial.encode(), namespace=_NAMESPACE)
