"""A run that is hit anywhere, at a random moment, ends in the same table by the same command (`make test-faults`).

In `make test` one run of test_end_to_end.py is hit at four of the points.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.io import read_json
from tests.orchestrator.launches import Watched

pytestmark = [pytest.mark.ray, pytest.mark.faults]
SEED = 20
OPTIONS = ["--only", "learner,amn"]
LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "predict_p95_ms", "answer_p95_ms")


def send(*signals: signal.Signals) -> Callable[[Watched], bool]:
    def act(hit: Watched) -> bool:
        for number in signals:
            hit.launch.send_signal(number)
            time.sleep(0.5)
        return True

    return act


HITS: dict[str, Callable[[Watched], bool]] = {
    "driver killed": send(signal.SIGKILL),
    "driver terminated": send(signal.SIGTERM),
    "terminal closed": send(signal.SIGHUP),
    "Ctrl-C": send(signal.SIGINT),
    "Ctrl-C twice": send(signal.SIGINT, signal.SIGINT),
    "trial killed": lambda hit: hit.kill("ray::ImplicitFunc", "ray::run_trial"),
    "evaluator killed": lambda hit: hit.kill("ray::RemoteEvaluator"),
    "raylet killed": lambda hit: hit.kill("raylet/raylet"),
    "head killed": lambda hit: hit.kill("gcs_server"),
    "all workers killed": lambda hit: hit.kill("ray::"),
}
POINTS = [pytest.param(name, moment, id=f"{name} {moment}") for moment in range(2) for name in HITS]


@pytest.fixture(scope="module")
def whole(rotation: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """The table of a run that nobody hit, and how long it took."""
    folder, began = tmp_path_factory.mktemp("whole"), time.monotonic()
    hit = Watched(rotation, folder / "run", folder / "log", *OPTIONS)
    assert hit.code() == 0, (folder / "log").read_text()
    return table(folder / "run"), time.monotonic() - began


def table(run: Path) -> dict[str, Any]:
    """Every figure of a run but its times."""
    rows = read_json(run / "results.json")["rows"]
    left = ("ci", "train_s", "verdict_why", "tie_group", "checkpoint_sha256", "gates", *LATENCIES)
    return {row["variant"]: {key: value for key, value in row.items() if key not in left} for row in rows}


@pytest.mark.parametrize(("name", "moment"), POINTS)
def test_a_run_that_is_hit_ends_in_the_same_table_and_leaves_nothing(
    rotation: Path, whole: tuple[dict[str, Any], float], tmp_path: Path, name: str, moment: int
) -> None:
    expected, seconds = whole
    after = random.Random(f"{SEED} {name} {moment}").uniform(0.1, 0.95) * seconds
    run, log = tmp_path / "run", tmp_path / "log"
    hit = Watched(rotation, run, log, *OPTIONS)
    time.sleep(after)
    while not HITS[name](hit) and hit.launch.poll() is None:
        time.sleep(0.1)  # what is to be killed does not run yet
    code = hit.code()
    if name.startswith("Ctrl-C") and not (run / "results.json").is_file():
        assert code == 130, log.read_text()
    codes = (Watched(rotation, run, log, *OPTIONS).code() for _ in range(3))
    assert 0 in codes, log.read_text()
    assert table(run) == expected
    left = [path for path in run.rglob("*") if path.name.endswith((".tmp", ".lock")) or path.name.startswith(".best")]
    assert left == [], left
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".run.")]
