"""The checkpoints that a trial goes on from: files of the run folder, which the evaluator reads on the driver's node.

A checkpoint that cannot be read is passed over. What was lost is trained again and gives the same records.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import ray

from data.errors import UserError
from data.io import parse_json_lines
from models.training.checkpoint import load_training_state
from orchestrator.trials.setup import TrialSetup


class KeptCheckpoints:
    """What the run folder has of a trial; `went_back` says what was passed over, and why, empty for nothing."""

    def __init__(self, setup: TrialSetup) -> None:
        self._setup = setup
        self.went_back = ""

    def last(self) -> dict[str, Any] | None:
        """Return the state to go on from: last.pt, the one before where that is of no use; None: from scratch.

        Raises UserError when it is that of another run.
        """
        last = self._setup.last
        for path in (last, last.with_name("last.prev.pt")):
            try:
                state = self._read(path)
            except UserError as error:
                self.went_back = f"{path}: {error}; went back to the checkpoint before it"
                continue
            if state is not None:
                self._setup.folder.check_own(path, state)
                if state["epoch"] <= self._num_recorded():
                    return state
                self.went_back = f"{path}: its epoch {state['epoch']} has no record; went back to the one before it"
        return None

    def best(self) -> dict[str, Any] | None:
        """Return best.pt; None where nobody knows any more what an epoch has to beat. UserError as for `last`."""
        path = self._setup.best
        try:
            best = self._read(path)
        except UserError as error:
            self.went_back = f"{path}: {error}; training starts anew"
            return None
        if best is None:
            self.went_back = f"{path}: no such file; training starts anew"
            return None
        self._setup.folder.check_own(path, best["provenance"])
        return best

    def _num_recorded(self) -> int:
        """Return up to which epoch the run folder has records: a later checkpoint would leave a hole in them."""
        content = self._content(self._setup.folder.metrics)
        lines = [] if content is None else parse_json_lines(bytes(content))
        epochs = {line["epoch"] for line in lines}
        return next(epoch for epoch in itertools.count() if epoch + 1 not in epochs)

    def _read(self, path: Path) -> dict[str, Any] | None:
        content = self._content(path)
        return None if content is None else load_training_state(io.BytesIO(content))

    def _content(self, path: Path) -> Any:
        """Return a file's bytes, None where there is none yet."""
        return ray.get(self._setup.evaluator.read_file.remote(str(path)))
