"""manifest.json: versions, hardware, commit, seeds and hashes, so that a figure can be traced to what made it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data.io import file_sha256
from data.payload.store import content_sha256
from data.prepare import PreparedData
from models.spec.imported import file_to_ship
from orchestrator.config.experiment import ExperimentConfig

_LIBRARIES = ("ray", "torch", "faiss-cpu", "numpy", "pyarrow", "wordllama")


def input_hashes(config: ExperimentConfig, data: PreparedData) -> dict[str, str]:
    """Return the sha256 of what a run reads, by its key in manifest.json: payload, windows, an index file, and the code
    that the experiment names by import path.
    """
    hashes = {
        "data_sha256": data.payload.provenance.sha256,
        "windows_sha256": content_sha256(*(table.rows for _, table in data.splits.items())),
    }
    if config.imported:
        hashes["imported_sha256"] = _sources_sha256(dict.fromkeys(map(file_to_ship, config.imported)))
    if config.index.file is not None:
        hashes["index_sha256"] = file_sha256(Path(config.index.file))
    return hashes


def _sources_sha256(modules: Iterable[str]) -> str:
    """Return one sha256 over the Python files of packages and modules."""
    whole = sha256()
    for module in map(Path, modules):
        for file in sorted(module.rglob("*.py")) if module.is_dir() else [module]:
            whole.update(f"{file.relative_to(module.parent)} {file_sha256(file)}\n".encode())
    return whole.hexdigest()


def manifest(config: ExperimentConfig, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what manifest.json holds; `hashes` are those of `input_hashes`."""
    return {
        "name": config.name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_sha256": config.fingerprint(),
        **hashes,
        "seed": config.seed,
        "training_seeds": [*config.training_seeds],
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "hardware": {"cpu": cpu_model(), "num_cpus": os.cpu_count(), "system": platform.platform()},
    }


def git_commit() -> str | None:
    """Return the commit of the checkout, with `+changes` when files differ from it; None outside a checkout."""
    root = Path(__file__).parents[2]
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
