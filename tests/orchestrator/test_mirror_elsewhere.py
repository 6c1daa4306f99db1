"""A machine is lost with its run folder; another goes on from the mirror and ends in the same figures."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from data.io import read_json
from tests.benchmarks.bare_loop import run_bare
from tests.orchestrator.launches import (
    EPOCHS,
    LONG,
    NO_DROPOUT,
    REPOSITORY,
    TIMEOUT_S,
    command,
    figures,
    launch,
    records,
    sets,
)

pytestmark = pytest.mark.cluster
OPTIONS = ["--only", "learner,amn", *sets(*LONG)]


def test_a_run_goes_on_from_the_mirror_on_an_empty_machine(rotation: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "rotation"
    options = [*OPTIONS, *sets(NO_DROPOUT, f"mirror={tmp_path / 'copies'}")]
    lost, log = tmp_path / "lost", tmp_path / "log"
    with log.open("w") as output:
        first = subprocess.Popen(
            command(rotation, lost, *options), cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True
        )
        while not (copy / "variants" / "learner" / "last.pt").is_file():
            assert first.poll() is None, log.read_text()
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    reached = len(records(copy, "learner"))
    lost.rename(tmp_path / "gone")

    second = launch(rotation, tmp_path / "elsewhere", *options)
    assert second.returncode in (0, 3), second.stderr + second.stdout
    assert "brought back to" in second.stdout
    assert 0 < reached < EPOCHS["learner"]
    never_lost = run_bare(str(rotation), (NO_DROPOUT, *LONG, "variants.frozen=null"))
    for variant in ("learner", "amn"):
        assert figures(records(tmp_path / "elsewhere", variant)) == figures(never_lost[variant]["records"])
        assert figures(records(copy, variant)) == figures(never_lost[variant]["records"])
    assert read_json(copy / "results.json") == read_json(tmp_path / "elsewhere" / "results.json")

    (tmp_path / "gone").rename(lost)
    late = subprocess.run(
        command(rotation, lost, *options),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert late.returncode == 2
    assert "another run or folder has written since" in late.stderr
