"""`make test` uses two processes, each of which takes a file at a time: those that start Ray first."""

from functools import cache
from pathlib import Path

import pytest


@cache
def starts_ray(file: Path) -> bool:
    """Return whether a file has tests that start Ray."""
    return "pytest.mark.ray" in file.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: starts_ray(item.path), reverse=True)
