"""The disk: room is asked for before a run starts, and a full one is called that."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.errors import UserError
from models.spec.costs import num_parameters
from orchestrator.run import space
from orchestrator.run.space import check_space, disk_full, needed_bytes
from orchestrator.state import Prepared

EXPERIMENT = "name: room\nvariants: {mamba_s: {d_model: 64}}\nbaselines: [last_vector, context_mean]\n"


def test_a_run_needs_ten_copies_of_its_weights_and_its_predictions(prepared_from: Callable[[str], Prepared]) -> None:
    config = prepared_from(EXPERIMENT).config
    weights = 4 * num_parameters(config.trials["mamba_s"].variant.spec, 16)
    # Three rows of 100 queries: 16 numbers of 4 bytes, 50 neighbours and 8 other numbers.
    assert needed_bytes(config, 16, 100) == 10 * weights + 3 * 100 * (64 + 200 + 32) + (64 << 20)
    twice = prepared_from(EXPERIMENT.replace("name: room", "name: room2\nseeds: [1, 2]")).config
    assert needed_bytes(twice, 16, 0) == 20 * weights + (64 << 20)


def test_too_little_room_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=int(1.5e9)))
    folder = tmp_path / "not" / "yet"
    check_space(folder, int(1.4e9))
    with pytest.raises(UserError, match=r"yet: expected 2.0 GB of free disk for checkpoints .*, got 1.5 GB; free some"):
        check_space(folder, int(2e9))


@pytest.mark.parametrize("inside", [False, True])
def test_an_error_of_a_full_disk_says_so_wherever_it_was_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    error: BaseException = OSError(errno.ENOSPC, "No space left on device", "last.pt")
    if inside:
        outer = RuntimeError("the experiment failed")
        outer.__cause__ = error
        error = outer
    assert disk_full(error, tmp_path) == f"{tmp_path}: the disk is full, 0 MB free; free some"
    assert disk_full(ValueError("other"), tmp_path) is None
