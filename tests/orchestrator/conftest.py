"""A payload small enough for a test and learnable: every next chunk is one fixed rotation of the last."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.payload.store import write_payload
from data.windows.table import WindowTable
from evaluation.queries import RunQueries
from orchestrator.cluster import start as cluster
from orchestrator.cluster.admission import Admission, ClusterResources, Node
from orchestrator.config.load import load_config
from orchestrator.questions import Questions
from orchestrator.run.ledger import Ledger
from orchestrator.state import Prepared
from tests.benchmarks.bare_loop import run_bare
from tests.orchestrator.launches import DIVERGING, NO_DROPOUT, ROTATION, launch

NUM_ARTICLES, NUM_CHUNKS, DIM = 120, 10, 16
ANGLE = np.pi / 3.5  # of every plane: the last vector's cosine with the next one is 0.6, so `last_vector` finds a fifth
NOISE = 0.05  # per coordinate; the next vector's cosine with the rotated last one stays near 0.98


@pytest.fixture(scope="session")
def rotation_payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a payload folder of 120 articles of 10 chunks in 16-D: x[t + 1] = unit(R x[t] + noise)."""
    rng = np.random.default_rng(7)
    basis = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    cosine, sine = np.cos(ANGLE), np.sin(ANGLE)
    rotation = basis @ np.kron(np.eye(DIM // 2), [[cosine, -sine], [sine, cosine]]) @ basis.T
    chunk = _unit(rng.standard_normal((NUM_ARTICLES, DIM)))
    chunks = [chunk]
    for _ in range(NUM_CHUNKS - 1):
        chunk = _unit(chunk @ rotation.T + NOISE * rng.standard_normal(chunk.shape))
        chunks.append(chunk)
    folder = tmp_path_factory.mktemp("payload") / "rotation"
    write_payload(
        folder,
        vectors=np.stack(chunks, axis=1).reshape(-1, DIM).astype(np.float32),
        article_index=np.repeat(np.arange(NUM_ARTICLES, dtype=np.int32), NUM_CHUNKS),
        chunk_index=np.tile(np.arange(NUM_CHUNKS, dtype=np.int32), NUM_ARTICLES),
        texts=[f"chunk {chunk} of article {article}" for article in range(NUM_ARTICLES) for chunk in range(NUM_CHUNKS)],
        embedder="rotation-16",
    )
    return folder


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Clock:
    """Stands in for the module `time`; a test moves `now` by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Clock]:
    """Return what puts a stopped clock in a module's place of `time`."""

    def put_into(module: str) -> Clock:
        clock = Clock()
        monkeypatch.setattr(f"{module}.time", clock)
        return clock

    return put_into


@pytest.fixture
def prepared_from(tmp_path: Path) -> Callable[[str], Prepared]:
    """Return what makes a prepared run of an experiment's text: an empty run folder, and a payload of 1,200 x 16."""

    def prepare(experiment: str) -> Prepared:
        path = tmp_path / "x.yaml"
        path.write_text(experiment)
        provenance = SimpleNamespace(embedder="rotation-16", sha256="d" * 64, source={})
        vectors = np.eye(1200, 16, dtype=np.float32)
        payload: Any = SimpleNamespace(
            num_rows=1200, dim=16, path=tmp_path / "payload", provenance=provenance, vectors=vectors
        )
        train = WindowTable(np.zeros((640, 6), np.int32), np.zeros(640, np.int32))
        data: Any = SimpleNamespace(payload=payload, splits=SimpleNamespace(train=train))
        questions = Questions(val=run_queries(50), smoke=run_queries(20), final=run_queries(200))
        ledger = Ledger(tmp_path / "run")
        return Prepared(config=load_config(path), ledger=ledger, data=data, questions=questions, checks=(), hashes={})

    return prepare


def admission() -> Admission:
    """Two slots of one core."""
    return Admission(device="cpu", slots=2, cpus_per_worker=1, gpus_per_worker=0.0, arithmetic="")


def run_queries(num: int) -> RunQueries:
    """Queries of which every second one is novel, four an article."""
    number = np.arange(num, dtype=np.int32)
    novel = number % 2 == 0
    nearest = np.where(novel, 0.5, 1.0).astype(np.float32)
    return RunQueries(np.zeros((num, 6), np.int32), number // 4, nearest, novel)


EXPERIMENT = """
name: rotation
seed: 3
data: {{source: payload, payload: {payload}}}
variants:
  learner: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16}}
  amn: {{d_model: 32, training: {{epochs: 2}}}}
training: {{epochs: 4, batch_size: 32}}
smoke: {{epochs: [2], queries: 20}}
gates:
  smoke: [{{epoch: 2, prune_unless: ["r@5 >= 1.2 * baseline.last_vector"], continue_if: ["p95_ms <= 20"]}}]
  success_if: ["r@5 >= 0.5"]
  ready_if: ["contain@50 >= 0.9"]
"""


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A known machine, and an empty folder to run in, so that whatever is written is seen."""
    machine = ClusterResources(nodes=(Node(cpus=2, gpus=0, memory_gib=64),))
    monkeypatch.setattr(cluster, "local_resources", lambda: machine)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def experiment(two_cpus: None, tmp_path: Path, rotation_payload: Path) -> Path:
    """Return the file of a small experiment on the rotation payload."""
    path = tmp_path / "x.yaml"
    path.write_text(EXPERIMENT.format(payload=rotation_payload))
    return path


@pytest.fixture(scope="session")
def rotation(rotation_payload: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the experiment file of `launches`: a variant that learns, one that cannot, and AMN."""
    path = tmp_path_factory.mktemp("experiment") / "rotation.yaml"
    path.write_text(ROTATION.format(payload=rotation_payload))
    return path


@pytest.fixture(scope="session")
def bare(rotation: Path) -> dict[str, dict[str, Any]]:
    """Return what the bare loop makes of its variants, without dropout, as `launch` runs them."""
    return run_bare(str(rotation), (NO_DROPOUT,), slots=1)


@pytest.fixture(scope="session")
def whole_run(rotation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one launch of it, with a variant whose weights overflow, and of what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = launch(rotation, folder, "--set", DIVERGING)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder
