"""The checks of an index file made in a process of its own: for the driver, which imports no FAISS."""

import tempfile
from collections.abc import Collection
from pathlib import Path

from data.preflight.check import Check, judge
from data.preflight.run import load_checks, stamp_waived
from evaluation.config import IndexConfig
from evaluation.service.child import run_module


def check_index_file(config: IndexConfig, payload: Path, waive: Collection[str]) -> list[Check]:
    """Compare `config.file` with the payload in that folder, see `evaluation.index.file`; failed checks are returned.

    A file on which FAISS itself crashes fails `index_file` like any other that it cannot read.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "checks.json"
        options = ("--payload", str(payload), "--nprobe", str(config.nprobe), "--json", str(out))
        done = run_module("evaluation.index_file", str(config.file), *options)
        if out.is_file():
            checks = load_checks(out)
        else:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            detail = f"FAISS ended with code {done.returncode} on {config.file} and said: {said}"
            hint = "leave index.file out and an index is built"
            checks = [judge("index_file", 0, "==", 1, hint, detail=detail)]
    return stamp_waived(checks, waive)
