"""manifest.json: versions, hardware, commit, seeds and hashes, so that a figure can be traced to what made it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.config import ExperimentConfig

_LIBRARIES = ("ray", "torch", "faiss-cpu", "numpy", "pyarrow", "wordllama")


def manifest(config: ExperimentConfig, data_sha256: str) -> dict[str, Any]:
    """Return what manifest.json holds."""
    return {
        "name": config.name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_sha256": config.fingerprint(),
        "data_sha256": data_sha256,
        "seed": config.seed,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "hardware": {"cpu": cpu_model(), "num_cpus": os.cpu_count(), "system": platform.platform()},
    }


def git_commit() -> str | None:
    """Return the commit of the checkout, with `+changes` when files differ from it; None outside a checkout."""
    root = Path(__file__).parent.parent
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
