"""A worker that does not see the payload's folder gets the same rows from its node's copy in the object store."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.payload.store import open_payload, write_payload
from evaluation.config import IndexConfig
from evaluation.retrieval.corpus import QuerySet
from evaluation.service.remote import RemoteEvaluator
from orchestrator.cluster.payload_share import open_arrays

pytestmark = pytest.mark.ray
QUERIES = [QuerySet("smoke", np.arange(6, dtype=np.int32)[None], np.ones(1, bool))]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    import ray

    env = {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    options = {"include_dashboard": False, "log_to_driver": False, "runtime_env": {"env_vars": env}}
    ray.init(address="local", num_cpus=2, **options)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def evaluator(local_ray: Any, rotation_payload: Path) -> Any:
    actor = local_ray.remote(RemoteEvaluator).options(num_cpus=0)
    return actor.remote(str(rotation_payload), IndexConfig(kind="flat"), QUERIES)


def look(path: Path, sha256: str, evaluator: Any) -> dict[str, Any]:
    """Open the arrays and say what they are and in which mapped file they lie."""
    arrays = open_arrays(path, sha256, evaluator)
    address = arrays.vectors.__array_interface__["data"][0]
    mapped = ""
    for line in Path("/proc/self/maps").read_text().splitlines() if sys.platform == "linux" else []:
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        mapped = line if first <= address < last else mapped
    flags = arrays.vectors.flags
    return {
        "sum": float(np.asarray(arrays.vectors, np.float64).sum()),
        "articles": np.array(arrays.article_index),
        "own": flags.owndata,
        "writeable": flags.writeable,
        "mapped": mapped,
        "faiss": "faiss" in sys.modules,
    }


def other_payload(folder: Path) -> Path:
    vectors = np.eye(16, dtype=np.float32)
    keys = np.arange(16, dtype=np.int32)
    write_payload(folder, vectors=vectors, article_index=keys, chunk_index=keys, embedder="other")
    return folder


def test_without_the_folder_or_with_another_payload_in_it_the_rows_are_the_same_not_copied_and_faiss_stays_away(
    local_ray: Any, evaluator: Any, rotation_payload: Path, tmp_path: Path
) -> None:
    payload = open_payload(rotation_payload)
    sha256 = payload.provenance.sha256
    task = local_ray.remote(num_cpus=1)(look)
    places = [tmp_path / "hidden", other_payload(tmp_path / "other")]
    for found in local_ray.get([task.remote(place, sha256, evaluator) for place in places], timeout=300):
        assert found["sum"] == float(np.asarray(payload.vectors, np.float64).sum())
        np.testing.assert_array_equal(found["articles"], payload.article_index)
        assert (found["own"], found["writeable"]) == (False, False)
        assert sys.platform != "linux" or "plasma" in found["mapped"]
        assert not found["faiss"]


def test_the_payload_is_put_into_the_store_once_and_as_plain_arrays(
    rotation_payload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation.service.actor import Evaluator

    put: list[Any] = []
    monkeypatch.setattr("ray.put", lambda value: put.append(value) or object())
    evaluator = Evaluator(str(rotation_payload), IndexConfig(kind="flat"), QUERIES)
    assert put == []
    assert evaluator.share_payload() is evaluator.share_payload()
    ((vectors, articles),) = put
    assert type(vectors) is type(articles) is np.ndarray


def test_a_worker_that_sees_the_folder_asks_for_nothing(rotation_payload: Path) -> None:
    payload = open_payload(rotation_payload)
    arrays = open_arrays(rotation_payload, payload.provenance.sha256, evaluator=None)
    assert isinstance(arrays.vectors, np.memmap)


def test_trials_gather_the_same_from_the_store_as_from_the_folder_and_open_it_once(
    evaluator: Any, rotation_payload: Path, tmp_path: Path
) -> None:
    import torch

    from orchestrator.trials.table import _opened, open_table

    sha256, rows = open_payload(rotation_payload).provenance.sha256, np.array([[3, 1], [7, 7]], np.int32)
    gathered = []
    for path in (rotation_payload, tmp_path / "hidden"):
        _opened.clear()
        table = open_table(path, sha256, evaluator, torch.device("cpu"))
        gathered.append(table.gather(rows))
        assert open_table(path, sha256, evaluator, torch.device("cpu")) is table
    assert all(map(torch.equal, *gathered))
