"""The checks of an index file for the driver, which imports no FAISS."""

from collections.abc import Collection
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from data.preflight.check import Check, judge
from data.preflight.run import stamp_waived
from evaluation.config import IndexConfig
from evaluation.service.process import in_own_process


def check_index_file(config: IndexConfig, payload: Path, waive: Collection[str]) -> list[Check]:
    """Compare `config.file` with the payload in that folder, see `evaluation.index.file`; failed checks are returned.

    A file on which FAISS itself crashes fails `index_file` like any other that it cannot read.
    """
    try:
        checks: list[Check] = in_own_process("evaluation.index.file", "check_file", config, payload)
    except BrokenProcessPool:
        hint = "leave index.file out and an index is built"
        checks = [judge("index_file", 0, "==", 1, hint, detail=f"FAISS crashed on {config.file}")]
    return stamp_waived(checks, waive)
