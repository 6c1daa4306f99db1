"""An index that is built once and opened ever after."""

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("num_bytes", "num_rows", "message"),
    [
        (100, 600, r"\.faiss: expected a saved index, got .*; delete .* and run again"),
        (None, 500, "expected an index of 500 rows in 16 dimensions, got 600 in 16"),
    ],
)
def test_an_index_that_is_damaged_or_of_another_size_is_refused(vectors, tmp_path, num_bytes, num_rows, message):
    config = IndexConfig(kind="ivf_flat", nlist=4)
    open_or_build(vectors, config, "abc", tmp_path)
    (path,) = tmp_path.glob("*.faiss")
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=message):
        open_or_build(vectors[:num_rows], config, "abc", tmp_path)
