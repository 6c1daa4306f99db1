"""A module of this program run in a process of its own, since torch and FAISS never share one."""

import os
import subprocess
import sys
from pathlib import Path


def run_module(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m module arguments` with this process's import path and return what it said."""
    # The child finds the packages where this process found them, installed or not.
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, env=env
    )
