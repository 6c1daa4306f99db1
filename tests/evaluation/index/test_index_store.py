"""An index that is built once and opened ever after."""

import numpy as np
import pytest

from data.output import held
from evaluation.config import IndexConfig
from evaluation.index import store as index_store
from evaluation.index.store import key, open_or_build


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw"])
def test_an_opened_index_answers_as_the_built_one(vectors, tmp_path, kind):
    config = IndexConfig(kind=kind, nlist=16, nprobe=3, k_factor=2)
    built, was_built = open_or_build(vectors, config, "abc", tmp_path)
    opened, again_built = open_or_build(vectors, config, "abc", tmp_path)
    assert (was_built, again_built) == (True, False)
    for expected, found in zip(built.search(vectors[:30], 20), opened.search(vectors[:30], 20), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert opened.describe()["fidelity"] == built.describe()["fidelity"]
    kept = {".json"} if kind == "flat" else {".json", ".faiss"}  # a flat index is the payload's vectors again
    assert {file.suffix for file in tmp_path.iterdir()} == kept


def test_a_choice_of_auto_is_kept_with_what_it_tried(vectors, tmp_path, monkeypatch):
    first, _ = open_or_build(vectors, IndexConfig(), "abc", tmp_path)
    monkeypatch.setattr(index_store, "build_index", None)
    second, _ = open_or_build(vectors, IndexConfig(), "abc", tmp_path)
    assert second.describe()["tried"] == first.describe()["tried"]
    assert second.describe()["chosen_by"] == "auto"


def test_another_payload_or_configuration_is_another_index():
    keys = {
        key(IndexConfig(), "abc"),
        key(IndexConfig(), "abd"),
        key(IndexConfig(nprobe=8), "abc"),
        key(IndexConfig(kind="flat"), "abc"),
    }
    assert len(keys) == 4


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        ("faiss", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("faiss", zeroed),
        ("faiss", lambda path: path.unlink()),
        ("json", lambda path: path.write_text("{")),
        ("json", lambda path: path.write_text("{}")),
    ],
    ids=["cut off", "zeroed", "missing", "torn description", "empty description"],
)
def test_a_damaged_index_is_built_again(vectors, tmp_path, suffix, spoil):
    config = IndexConfig(kind="ivf_flat", nlist=4)
    first, _ = open_or_build(vectors, config, "abc", tmp_path)
    (path,) = tmp_path.glob(f"*.{suffix}")
    spoil(path)
    second, built = open_or_build(vectors, config, "abc", tmp_path)
    assert built
    np.testing.assert_array_equal(second.search(vectors[:5], 3)[1], first.search(vectors[:5], 3)[1])
    assert not open_or_build(vectors, config, "abc", tmp_path)[1]


def test_an_index_for_other_rows_is_not_opened(vectors, tmp_path):
    config = IndexConfig(kind="ivf_flat", nlist=4)
    open_or_build(vectors, config, "abc", tmp_path)
    assert open_or_build(vectors[:500], config, "abc", tmp_path)[1]


def test_while_another_process_builds_the_same_index_it_is_built_and_not_kept(vectors, tmp_path):
    config = IndexConfig(kind="ivf_flat", nlist=4)
    with held(tmp_path / key(config, "abc"), "index"):
        assert open_or_build(vectors, config, "abc", tmp_path)[1]
    assert not [*tmp_path.glob("*.faiss")]
