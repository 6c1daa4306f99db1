"""What the tests of models share."""

from collections.abc import Iterator

import pytest
import torch

from models.cpu import fused


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: for models this small more of them only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


MIN_WINDOWS = fused.MIN_WINDOWS


@pytest.fixture(autouse=True)
def few_windows_take_the_fused_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small batches of a test go where a training's go."""
    monkeypatch.setattr(fused, "MIN_WINDOWS", 1)


@pytest.fixture
def min_windows(few_windows_take_the_fused_form: None, monkeypatch: pytest.MonkeyPatch) -> int:
    """Send batches where they go outside of these tests; return how many windows the fused form takes at least."""
    monkeypatch.setattr(fused, "MIN_WINDOWS", MIN_WINDOWS)
    return MIN_WINDOWS
