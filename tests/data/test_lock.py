"""Two processes never make the same folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import UserError
from data.lock import held

HOLD = """
import sys, time
from pathlib import Path
from data.lock import held
with held(Path(sys.argv[1]), ""):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_told_who_holds_it_and_the_lock_of_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        told = rf"run: expected it free, got it in use by process {other.pid} on .* since 20.*; wait a little"
        with pytest.raises(UserError, match=told), held(folder, "wait a little"):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with held(folder, "wait"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_lock_and_nothing_of_others_is_removed(tmp_path: Path) -> None:
    with held(tmp_path / "new" / "runs" / "run", "wait"):
        assert {path.name for path in (tmp_path / "new/runs").iterdir()} == {".run.lock", ".run.holder.json"}
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path / "runs" / "run", "wait"):
        (tmp_path / "runs" / "run").mkdir()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with (
        held(tmp_path / "run", "wait"),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
        held(tmp_path / "run", "wait"),
    ):
        pass
