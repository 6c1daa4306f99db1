"""A kernel that was compiled once for this user is not compiled again for another copy of its source."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from models.cpu.cache import ByContent, kept_by_content

REPOSITORY = Path(__file__).parents[3]
SOURCE = """
from numba import njit

from models.cpu.cache import kept_by_content

with kept_by_content():

    @njit(cache=True)
    def double(x):
        return 2 * x

print(double(21), *double.stats.cache_hits.values())
"""


def run(folder: Path, home: str) -> str:
    """Run a copy of the source in a process of its own; return the result and how often the cache had it."""
    folder.mkdir()
    (folder / "source.py").write_text(SOURCE)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": home, "XDG_CACHE_HOME": home}
    done = subprocess.run(
        [sys.executable, str(folder / "source.py")], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.strip()


def test_another_copy_of_the_source_finds_what_the_first_one_compiled(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    assert run(tmp_path / "first", home) == "42"
    assert run(tmp_path / "second", home) == "42 1"


def test_where_the_users_folder_cannot_be_written_the_cache_lies_beside_the_source(tmp_path: Path) -> None:
    assert run(tmp_path / "beside", home="/proc") == "42"
    assert any((tmp_path / "beside").rglob("*.nbi"))


def test_another_source_has_another_folder(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "same", "other")]
    for path, text in zip(paths, ("x", "x", "y"), strict=True):
        path.write_text(text)
    one, same, other = (ByContent.get_suitable_cache_subpath(str(path)) for path in paths)
    assert one == same != other


@pytest.mark.parametrize("name", ["CACHE_DIR", "CACHE_LOCATOR_CLASSES"])
def test_what_the_environment_says_of_numbas_cache_comes_first(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with kept_by_content():
        assert config.CACHE_LOCATOR_CLASSES.startswith("models.cpu.cache.ByContent,")
    monkeypatch.setattr(config, name, "somewhere")
    before = config.CACHE_LOCATOR_CLASSES
    with kept_by_content():
        assert before == config.CACHE_LOCATOR_CLASSES
