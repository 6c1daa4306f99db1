"""Studies of one finished run without a process for each."""

from importlib import import_module
from typing import Any

import pytest

from evaluation.studies import checkpoint, subject


@pytest.fixture
def predictions_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predict where the test runs: a process of its own would import torch each time."""

    def call(module: str, function: str, *arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), function)(*arguments, **options)

    for user in (checkpoint, subject):
        monkeypatch.setattr(user, "in_own_process", call)
