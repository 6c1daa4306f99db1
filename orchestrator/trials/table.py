"""The vectors that a trial gathers from, opened once a process and shared by the trials that follow in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from data.payload.duplicates import duplicate_ids
from orchestrator.cluster.payload_share import open_arrays
from orchestrator.trials.learner import GatherTable

_opened: dict[tuple[str, torch.device], GatherTable] = {}


def open_table(path: Path, sha256: str, evaluator: Any, device: torch.device) -> GatherTable:
    """Return the vectors of the payload with this content; see `open_arrays` for where they come from."""
    key = (sha256, device)
    if key not in _opened:
        _opened.clear()
        arrays = open_arrays(path, sha256, evaluator)
        _opened[key] = GatherTable(arrays.vectors, duplicate_ids(arrays.vectors), arrays.article_index, device)
    return _opened[key]
