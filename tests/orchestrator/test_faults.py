"""A run that is hit anywhere, at a random moment, ends in the same table by the same command (`make test-faults`).

Two of the points are in `make test`, where test_end_to_end.py has three more: a trial and a driver killed, Ctrl-C.
Linux only: processes are found by a variable in their environment.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.io import read_json
from tests.orchestrator.launches import NO_DROPOUT, REPOSITORY, command

pytestmark = pytest.mark.ray
SEED = 20
TIMEOUT_S = 240
ORPHAN_S = 10
OPTIONS = ["--only", "learner,amn", "--set", NO_DROPOUT]
LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "predict_p95_ms", "answer_p95_ms")


class Hit:
    """One launch, its processes, and what is done to one of them."""

    def __init__(self, rotation: Path, run: Path, log: Path) -> None:
        self.tag = f"{os.getpid()}-{time.monotonic_ns()}"
        with log.open("ab") as output:
            self.launch = subprocess.Popen(
                command(rotation, run, *OPTIONS),
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                env={**os.environ, "NEXT_VECTOR_FAULT": self.tag},
            )

    def processes(self) -> dict[int, str]:
        """Every living process of this launch, with its command line."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"NEXT_VECTOR_FAULT={self.tag}".encode() in (path / "environ").read_bytes():
                    line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if line:  # a zombie has none
                        found[int(path.name)] = line
            except OSError:
                continue
        return found

    def of(self, *words: str) -> list[int]:
        return [pid for pid, line in self.processes().items() if any(word in line for word in words)]

    def kill(self, *words: str) -> bool:
        pids = self.of(*words)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def orphans(self) -> dict[int, str]:
        """What lives ORPHAN_S after the launch has ended."""
        for _ in range(ORPHAN_S):
            if not self.processes():
                return {}
            time.sleep(1)
        return self.processes()


def send(*signals: signal.Signals) -> Callable[[Hit], bool]:
    def act(hit: Hit) -> bool:
        for number in signals:
            hit.launch.send_signal(number)
            time.sleep(0.5)
        return True

    return act


HITS: dict[str, Callable[[Hit], bool]] = {
    "driver killed": send(signal.SIGKILL),
    "driver terminated": send(signal.SIGTERM),
    "terminal closed": send(signal.SIGHUP),
    "Ctrl-C": send(signal.SIGINT),
    "Ctrl-C twice": send(signal.SIGINT, signal.SIGINT),
    "trial killed": lambda hit: hit.kill("ray::ImplicitFunc", "ray::run_trial"),
    "evaluator killed": lambda hit: hit.kill("ray::Evaluator"),
    "raylet killed": lambda hit: hit.kill("raylet/raylet"),
    "head killed": lambda hit: hit.kill("gcs_server"),
    "all workers killed": lambda hit: hit.kill("ray::"),
}
IN_MAKE_TEST = [("evaluator killed", 0), ("raylet killed", 0)]
POINTS = [
    pytest.param(
        name,
        moment,
        id=f"{name} {moment}",
        marks=() if (name, moment) in IN_MAKE_TEST else pytest.mark.faults,
    )
    for moment in range(2)
    for name in HITS
]


@pytest.fixture(scope="module")
def whole(rotation: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """The table of a run that nobody hit, and how long it took."""
    folder, began = tmp_path_factory.mktemp("whole"), time.monotonic()
    hit = Hit(rotation, folder / "run", folder / "log")
    assert hit.launch.wait(timeout=TIMEOUT_S) == 0, (folder / "log").read_text()
    return table(folder / "run"), time.monotonic() - began


def table(run: Path) -> dict[str, Any]:
    """Every figure of a run but its times."""
    rows = read_json(run / "results.json")["rows"]
    left = ("ci", "train_s", "verdict_why", "tie_group", "checkpoint_sha256", "gates", *LATENCIES)
    return {row["variant"]: {key: value for key, value in row.items() if key not in left} for row in rows}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize(("name", "moment"), POINTS)
def test_a_run_that_is_hit_ends_in_the_same_table_and_leaves_nothing(
    rotation: Path, whole: tuple[dict[str, Any], float], tmp_path: Path, name: str, moment: int
) -> None:
    expected, seconds = whole
    after = random.Random(f"{SEED} {name} {moment}").uniform(0.1, 0.95) * seconds
    run, log = tmp_path / "run", tmp_path / "log"
    hit = Hit(rotation, run, log)
    time.sleep(after)
    while not (struck := HITS[name](hit)) and hit.launch.poll() is None:
        time.sleep(0.1)  # what is to be killed does not run yet
    assert struck or (name, moment) not in IN_MAKE_TEST, "the run was over before anything was hit"
    code = hit.launch.wait(timeout=TIMEOUT_S)
    if name.startswith("Ctrl-C") and not (run / "results.json").is_file():
        assert code == 130, log.read_text()
    assert hit.orphans() == {}
    for _ in range(3):
        again = Hit(rotation, run, log)
        code = again.launch.wait(timeout=TIMEOUT_S)
        assert again.orphans() == {}
        if code == 0:
            break
    assert code == 0, log.read_text()
    assert table(run) == expected
    left = [path for path in run.rglob("*") if path.name.endswith((".tmp", ".lock")) or path.name.startswith(".best")]
    assert left == [], left
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".run.")]
