"""Launches as a user types them, of one small experiment, and what they leave: shared by the tests that start Ray."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.io import read_json_lines

REPOSITORY = Path(__file__).parents[2]
ROTATION = """
name: rotation
seed: 3
data: {{source: payload, payload: {payload}}}
variants:
  learner: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16}}
  frozen: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16, training: {{optimizer: {{lr: 0.0}}}}}}
  amn: {{d_model: 32, residual: fitted}}
training:
  epochs: 4
  batch_size: 32
  precision: float32  # bfloat16 rounds so much that two workers are not like one
  optimizer: {{lr: 5.0e-3}}
smoke: {{epochs: [2], queries: 40}}
gates:
  smoke: [{{epoch: 2, prune_unless: ["novel.r@5 >= 1.5 * baseline.last_vector"]}}]
baselines: [last_vector, context_mean]
index: {{kind: flat}}
resources: {{max_concurrent: 2}}  # fewer slots than variants, on any machine
"""
NO_DROPOUT = "variants.learner.dropout=0.0"
DIVERGING = (  # each step multiplies the weights by 1 - 10 * 10: they overflow within two epochs
    "variants.diverging={model: mamba_s, d_model: 32, d_state: 16, head_dim: 16, "
    "training: {optimizer: {lr: 10.0, weight_decay: 10.0}}}"
)
LEARNER_ALONE = ("variants.frozen.enabled=false", "variants.amn.enabled=false")
"""What a bare loop need not train where only this variant is looked at."""
WATCHED = "NEXT_VECTOR_WATCHED"
TIMEOUT_S = 420
ORPHAN_S = 10
EPOCHS = {"learner": 50, "amn": 100}
"""So many take longer than a test needs to reach into the run."""
NO_RULES = ["training.early_stopping=null", "smoke.epochs=[]", "gates.smoke=[]"]
LONG = [*NO_RULES, *(f"variants.{name}.training.epochs={epochs}" for name, epochs in EPOCHS.items())]


def arguments(experiment: Path, run: Path, *options: str) -> list[str]:
    return [str(experiment), "--run-dir", str(run), *options]


def command(experiment: Path, run: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.launch", *arguments(experiment, run, *options)]


def launch(experiment: Path, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(experiment, run, "--set", NO_DROPOUT, *options),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def records(run: Path, variant: str) -> list[dict[str, Any]]:
    return read_json_lines(run / "variants" / variant / "metrics.jsonl")


def predictions(run: Path, variant: str) -> np.ndarray:
    """Return the predicted vectors of the final queries, (Q, D) float32."""
    predicted: np.ndarray = np.load(run / "variants" / variant / "predictions.npy")
    return predicted


def figures(records: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    """What must be equal to the last digit."""
    return [
        tuple(record.get(name) for name in ("loss", "val_loss", "val_cosine", "val_mrr", "val_soft_r@5"))
        for record in records
    ]


def sets(*texts: str) -> list[str]:
    """Overrides as the command line takes them."""
    return [part for text in texts for part in ("--set", text)]


def rays_psutil() -> Any:
    """Return the psutil that Ray brings, which is found only once Ray is imported."""
    import ray  # noqa: F401

    return importlib.import_module("psutil")


class Watched:
    """A launch that is watched and hit, with its processes: found by a variable of their environment."""

    def __init__(self, experiment: Path, run: Path, log: Path, *options: str) -> None:
        self._tag = f"{os.getpid()}-{time.monotonic_ns()}"
        self._run, self._log = run, log
        with log.open("ab") as output:
            self.launch = subprocess.Popen(
                command(experiment, run, "--set", NO_DROPOUT, *options),
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                env={**os.environ, WATCHED: self._tag},
            )

    def wait_for_epochs(self, more: int) -> None:
        """Wait until `learner` has written so many more epochs than now."""
        wanted = len(records(self._run, "learner")) + more
        self._wait(lambda: len(records(self._run, "learner")) >= wanted)

    def wait_for_line(self, text: str) -> None:
        self._wait(lambda: text in self.told())

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.launch.poll() is None, self.told()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def processes(self) -> dict[int, str]:
        """Every living process of this launch, with its command line."""
        psutil = rays_psutil()
        found = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get(WATCHED) == self._tag:
                    found[process.pid] = " ".join(process.cmdline())
            except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
                continue
        return found

    def told(self) -> str:
        """Return what it has printed."""
        return self._log.read_text()

    def doors(self) -> set[tuple[str, str]]:
        """Return the name and the address of every process of this launch that listens."""
        psutil = rays_psutil()
        found = set()
        for pid in self.processes():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                one = psutil.Process(pid)
                found |= {(one.name(), door.laddr.ip) for door in one.net_connections() if door.status == "LISTEN"}
        return found

    def kill(self, *words: str) -> bool:
        """Kill every process whose command line has one of the words; return whether there is one."""
        pids = [pid for pid, line in self.processes().items() if any(word in line for word in words)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def code(self) -> int:
        """Wait for the end; return the exit code. Nothing of the launch may live ORPHAN_S later."""
        code = self.launch.wait(timeout=TIMEOUT_S)
        for _ in range(ORPHAN_S):
            if not self.processes():
                break
            time.sleep(1)
        assert self.processes() == {}
        return code
