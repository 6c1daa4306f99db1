"""A kernel that was compiled once for this user is not compiled again for another copy of its source."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
SOURCE = """
from numba import njit

from models.cpu.cache import kept_by_content

with kept_by_content():

    @njit(cache=True)
    def double(x):
        return {factor} * x

print(double(21), *double.stats.cache_hits.values())
"""


def run(folder: Path, factor: int = 2, **environment: str) -> str:
    """Run a copy of the source in a process of its own; return the result and how often the cache had it."""
    folder.mkdir(exist_ok=True)
    (folder / "source.py").write_text(SOURCE.format(factor=factor))
    named = {"HOME": str(folder.parent / "home"), "XDG_CACHE_HOME": str(folder.parent / "home"), **environment}
    command = [sys.executable, str(folder / "source.py")]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **named}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    return done.stdout.strip()


def test_another_copy_of_the_source_finds_what_the_first_one_compiled_and_another_source_does_not(
    tmp_path: Path,
) -> None:
    assert run(tmp_path / "first") == "42"
    assert run(tmp_path / "second") == "42 1"
    assert run(tmp_path / "other", factor=3) == "63"


def test_a_folder_named_by_the_environment_or_one_beside_the_source_is_used_instead(tmp_path: Path) -> None:
    assert run(tmp_path / "named", NUMBA_CACHE_DIR=str(tmp_path / "cache")) == "42"
    assert any((tmp_path / "cache").rglob("*.nbi"))
    unwritable = {"HOME": "/proc", "XDG_CACHE_HOME": "/proc"}
    assert run(tmp_path / "beside", **unwritable) == "42"
    assert any((tmp_path / "beside").rglob("*.nbi"))
