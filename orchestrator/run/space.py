"""Whether the disk has room for what a run writes: said before it starts, and in words when it runs full."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from data.errors import UserError
from models.spec.costs import num_parameters
from orchestrator.config.experiment import ExperimentConfig

FLOAT_BYTES = 4
BYTES_A_QUERY = 50 * 4 + 8 * 4  # neighbours and the other per-query arrays of a row
BESIDE = 64 << 20  # tables, pages, Ray's log


def needed_bytes(config: ExperimentConfig, dim: int, num_queries: int) -> int:
    """Return an estimate of what a run writes into its folder.

    A trial keeps its best weights, and its last and last but one state: weights and AdamW's two moments each. While one
    is written, the one that it replaces still stands. A row keeps predictions and arrays of every final query.
    """
    trials = config.trials.values()
    parameters = sum(num_parameters(trial.variant.spec, dim) for trial in trials)
    lines = sum(trial.variant.spec.residual == "fitted" for trial in trials) * config.data.context_length * dim**2
    checkpoints = (parameters * (1 + 3 * 3) + lines * 4) * FLOAT_BYTES
    num_rows = len(config.trials) + len(config.baselines)
    return checkpoints + num_rows * num_queries * (dim * FLOAT_BYTES + BYTES_A_QUERY) + BESIDE


def check_space(folder: Path, needed: int) -> None:
    """Raise UserError when the disk of a folder, which need not exist yet, has less room than a run needs."""
    there = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{folder}: expected {shown(needed)} of free disk for checkpoints and predictions, got {shown(free)}; "
            "free some, or give a --run-dir on another disk"
        )


def disk_full(error: BaseException, folder: Path) -> str | None:
    """Say in a line that the disk of a run is full, where that is what an error comes from; else None."""
    found: BaseException | None = error
    while found is not None:
        if getattr(found, "errno", None) == errno.ENOSPC or "No space left on device" in str(found):
            free = shutil.disk_usage(folder if folder.is_dir() else folder.resolve().parent).free
            return f"{folder}: the disk is full, {shown(free)} free; free some"
        found = found.__cause__ or found.__context__
    return None


def shown(num_bytes: int) -> str:
    """Return bytes as a person reads them."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
