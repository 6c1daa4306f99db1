"""Studies of one finished run without a process for each."""

import pickle
from typing import Any

import pytest

from evaluation.service import process
from evaluation.studies import checkpoint, subject


@pytest.fixture
def predictions_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predict where the test runs: a process of its own would import torch each time. What would cross is pickled."""

    def call(module: str, function: str, *arguments: Any, **options: Any) -> Any:
        crossing = pickle.loads(pickle.dumps((arguments, options)))
        return pickle.loads(pickle.dumps(process._call(module, function, *crossing)))

    for user in (checkpoint, subject):
        monkeypatch.setattr(user, "in_own_process", call)
