"""`make test` uses two processes, each of which takes a file at a time: those that start Ray first."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_collection_finish() -> None:
    """`make test` gives one thread to the libraries of this process, which are imported by now; launches choose."""
    os.environ.pop("OMP_NUM_THREADS", None)
