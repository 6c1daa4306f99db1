"""A search whose trials only write what they score, to follow who trains in which round."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from data.io import append_json_line, write_bytes
from evaluation.ending import Ending
from orchestrator.cluster.admission import Admission
from orchestrator.gates import ended
from orchestrator.state import Measured, Opened, Prepared, Session, Started
from orchestrator.tracking.trackers import Tracking
from orchestrator.training import phase
from orchestrator.training.phase import train_all
from orchestrator.training.suggestions import train_generations

WHOLE = b"weights\nsha256 " + hashlib.sha256(b"weights").hexdigest().encode()
"""A checkpoint that ends with its hash."""


class OpenDoor:
    """Index and baselines that are there, if `answered`, and find nothing."""

    def __init__(self, on_open: Callable[[], None] = lambda: None) -> None:
        self.answered, self.on_open = True, on_open

    def is_ready(self) -> bool:
        return self.answered

    def open(self) -> Opened:
        self.on_open()
        measured = Measured(index={}, baselines={}, oracle={}, checks=())
        return Opened(measured=measured, tracking=Tracking([], print))


class Rounds:
    """A search whose trials score as `scores` says; `started` lists who trained in each round, and to which epoch."""

    def __init__(self, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, scores: Mapping[str, float]) -> None:
        self.prepared, self.ledger, self.scores = prepared, prepared.ledger, scores
        self.started: list[tuple[list[str], int]] = []
        monkeypatch.setattr(phase, "run_trials", self._train)

    def _train(self, names: Sequence[str], setups: Mapping[str, Any], *_: Any, scheduler: Any, **__: Any) -> None:
        # Where a trial may wait, it leaves a checkpoint.
        assert {setup.pauses for setup in setups.values()} == {(1, 3)}
        last = scheduler._pause_at or 5
        self.started.append((sorted(names), last))
        for name in names:
            folder = self.ledger.variant(name)
            folder.path.mkdir(parents=True, exist_ok=True)
            for epoch in range(len(folder.records()) + 1, last + 1):
                line = {"epoch": epoch, "val_soft_r@5": self.scores[name], "seconds": {}, "windows_seen": epoch}
                append_json_line(folder.metrics, line)
            if last == 5:
                self.ledger.record(name, ended(Ending.FINISHED, 5, "epoch == 5", ""))
                write_bytes(folder.predictions, b"")
                write_bytes(folder.best, WHOLE)

    def train(self) -> dict[str, tuple[Ending, int]]:
        admission = Admission(device="cpu", slots=2, cpus_per_worker=1, gpus_per_worker=0.0, arithmetic="")
        started = Started(admission=admission, evaluator=None, windows=None, line=None, orders={})
        session = Session(stream=io.StringIO())
        train = partial(train_all, started=started, opening=OpenDoor(), finals=None, session=session)
        _, trained = train_generations(self.prepared, train, session.say)
        return {name: (end.ending, end.epoch) for name, end in trained.ends.items()}
