"""`make test` uses two processes: one runs the files that start Ray, the other all the rest."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@cache
def starts_ray(file: str) -> bool:
    """Return whether a file of tests, by its path in the repository, has some that start Ray."""
    return "pytest.mark.ray" in (ROOT / file).read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: starts_ray(item.nodeid.partition("::")[0]), reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, and as one those that start Ray: a launch that some of them read is done once."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "ray" if starts_ray(file) else file

    return Scheduling(config, log)
