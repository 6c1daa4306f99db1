import numpy as np
import pytest

from data.windows import novelty
from data.windows.novelty import max_train_cosine
from tests.data.helpers import unit_rows

VECTORS = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0], [0.6, 0.8]], np.float32)


def cosines(targets: list[int], train_rows: list[list[int]], vectors: np.ndarray = VECTORS) -> np.ndarray:
    return max_train_cosine(vectors, np.array(targets, np.int32), np.array(train_rows, np.int32).reshape(-1, 2))


def test_the_largest_cosine_is_over_context_and_target_of_every_training_window() -> None:
    np.testing.assert_allclose(cosines([2, 3], [[0, 1]]), [0.8, 0.0])
    np.testing.assert_allclose(cosines([0], [[1, 1], [3, 2]]), [0.6])


def test_a_copy_in_training_gives_one_and_so_does_the_target_itself() -> None:
    np.testing.assert_allclose(cosines([2, 3], [[4, 3]]), [1.0, 1.0], atol=1e-6)


def test_without_training_windows_everything_is_new() -> None:
    assert cosines([0, 1], []).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_blocks_of_a_memory_map_give_what_one_product_gives(dtype, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "vectors.npy", unit_rows(50, 8).astype(dtype))
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    targets, train_rows = np.arange(30, 50, dtype=np.int32), np.arange(30, dtype=np.int32).reshape(10, 3)
    monkeypatch.setattr(novelty, "_TRAIN_ROWS", 7)
    monkeypatch.setattr(novelty, "_QUERIES", 3)
    found = max_train_cosine(vectors, targets, train_rows)
    whole = np.asarray(vectors, np.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (whole[30:] @ whole[:30].T).max(axis=1), atol=1e-6)
