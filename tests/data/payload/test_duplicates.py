import numpy as np
import pytest

from data.payload import duplicates
from data.payload.duplicates import duplicate_ids
from tests.data.helpers import unit_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dim", [7, 8, 10])
def test_each_row_gets_the_smallest_row_with_the_same_bytes(dim: int, dtype: type) -> None:
    vectors = unit_rows(6, dim).astype(dtype)[[3, 1, 3, 0, 1, 3]]
    assert duplicate_ids(vectors).tolist() == [0, 1, 0, 3, 1, 0]


def test_the_ids_equal_a_slow_reference_on_many_rows_and_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK_ROWS", 37)
    monkeypatch.setattr(duplicates, "_CACHED_ROWS", 37)
    vectors = unit_rows(50, 4)[np.random.default_rng(1).integers(0, 50, 400)]
    first: dict[bytes, int] = {}
    expected = [first.setdefault(row.tobytes(), number) for number, row in enumerate(vectors)]
    assert duplicate_ids(vectors).tolist() == expected


def test_a_collision_of_fingerprints_is_not_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_fingerprints", lambda vectors: np.zeros(len(vectors), np.uint64))
    vectors = unit_rows(3, 4)[[0, 1, 0, 1, 2]]
    assert duplicate_ids(vectors).tolist() == [0, 1, 0, 1, 4]
