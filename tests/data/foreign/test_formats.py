import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.foreign.formats import import_payload, read_rows
from data.foreign.parquet import write_parquet
from data.payload.store import Payload
from tests.data.helpers import MakePayload, unit_rows

VECTORS = unit_rows(4, 8)


def entries(**changes: Any) -> dict[Any, Any]:
    """The pickled dict of two articles of two chunks."""
    rows = {
        f"chunk-{row}": (f"text {row}", {"article_index": row // 2, "chunk_index": row % 2, "x": 1.5}, VECTORS[row])
        for row in range(4)
    }
    return {**rows, **changes}


def save_pickled(folder: Path, content: Any) -> Path:
    file = folder / "payload.npy"
    np.save(file, content, allow_pickle=True)
    return file


def assert_same(payload: Payload, *, dtype: type = np.float32, texts: bool = True) -> None:
    np.testing.assert_array_equal(payload.vectors, VECTORS.astype(dtype))
    assert payload.vectors.dtype == dtype
    assert payload.article_index.tolist() == [0, 0, 1, 1]
    assert payload.chunk_index.tolist() == [0, 1, 0, 1]
    assert payload.text(3) == ("text 3" if texts else "")


def test_a_pickled_dict_becomes_a_payload(tmp_path: Path) -> None:
    payload = import_payload(save_pickled(tmp_path, entries()), tmp_path / "out", embedder="gtr-t5-base")
    assert_same(payload)
    assert payload.provenance.embedder == "gtr-t5-base"
    assert payload.provenance.source["file"] == "payload.npy"


def test_a_pickled_dict_of_float16_in_any_order_is_sorted_and_keeps_its_type(tmp_path: Path) -> None:
    rows = {name: (text, keys, vector.astype(np.float16)) for name, (text, keys, vector) in entries().items()}
    payload = import_payload(save_pickled(tmp_path, dict(reversed(rows.items()))), tmp_path / "out")
    assert_same(payload, dtype=np.float16)
    assert payload.provenance.embedder == "unknown"
    assert payload.source_rows is not None
    assert payload.source_rows.tolist() == [3, 2, 1, 0]


def test_where_rows_stood_in_the_file_is_kept_when_the_payload_is_read_again(tmp_path: Path) -> None:
    file = save_pickled(tmp_path, dict(reversed(entries().items())))
    first = import_payload(file, tmp_path / "first")
    again = import_payload(first.path, tmp_path / "again")
    assert again.source_rows is not None
    assert again.source_rows.tolist() == [3, 2, 1, 0]
    in_order = import_payload(save_pickled(tmp_path, entries()), tmp_path / "out")
    assert in_order.source_rows is None
    assert not (in_order.path / "source_rows.npy").exists()


def test_a_pickled_dict_that_asks_for_code_is_refused_by_name_and_none_of_it_runs(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {witness}",)

    file = save_pickled(tmp_path, entries(evil=("text", {"article_index": 9, "chunk_index": 0}, Attack())))
    with pytest.raises(ValueError, match=r"payload.npy: expected numpy arrays .* got a request for posix.system;"):
        import_payload(file, tmp_path / "out")
    assert not witness.exists() and not (tmp_path / "out").exists()


def test_a_plain_array_with_keys_becomes_a_payload(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", VECTORS)
    np.save(tmp_path / "keys.npy", np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    payload = import_payload(tmp_path / "vectors.npy", tmp_path / "out", keys=tmp_path / "keys.npy")
    assert_same(payload, texts=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_parquet_goes_out_and_comes_back_the_same(make_payload: MakePayload, tmp_path: Path, dtype: type) -> None:
    payload = make_payload([2, 2], vectors=VECTORS.astype(dtype))
    write_parquet(payload, tmp_path / "x.parquet")
    back = import_payload(tmp_path / "x.parquet", tmp_path / "out")
    assert_same(back, dtype=dtype)
    assert back.provenance.sha256 == payload.provenance.sha256
    assert back.provenance.embedder == "random"
    assert back.article_title(1) == "title 1"


def test_a_folder_of_parquet_files_is_read_in_the_order_of_names(make_payload: MakePayload, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write_parquet(make_payload([2], vectors=VECTORS[:2]), folder / "a.parquet")
    later = make_payload([2], vectors=VECTORS[2:], article_index=np.ones(2, np.int32), texts=["text 2", "text 3"])
    write_parquet(later, folder / "b.parquet")
    assert_same(import_payload(folder, tmp_path / "out"))


def test_a_payload_folder_is_read_too(make_payload: MakePayload, tmp_path: Path) -> None:
    payload = make_payload([2, 2], vectors=VECTORS)
    assert_same(import_payload(payload.path, tmp_path / "out"))


def faulty_parquet(folder: Path, column: Any, **columns: Any) -> Path:
    pq.write_table(pa.table({"vector": column, **columns}), folder / "x.parquet")
    return folder / "x.parquet"


KEYS = {"article_index": [0, 0], "chunk_index": [0, 1]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.npy", "none.npy: expected a payload file, got none; check the path"),
        (lambda folder: save_pickled(folder, VECTORS), "expected a pickled dict, got an array (4, 8) of float32; give"),
        (
            lambda folder: save_pickled(folder, [1]),
            "expected a pickled dict, got an array (1,) of int64; give the keys",
        ),
        (lambda folder: save_pickled(folder, {}), "expected a dict {id: (text, keys, vector)}, got dict; convert it"),
        (
            lambda folder: save_pickled(folder, entries(extra=("text", [1.0]))),
            "got (str, list); convert it first",
        ),
        (
            lambda folder: save_pickled(folder, entries(extra=("text", {"article_index": 1}, VECTORS[0]))),
            "expected (text, {'article_index', 'chunk_index'}, vector) at id 'extra', got (str, dict, ndarray)",
        ),
        (
            lambda folder: save_pickled(
                folder, entries(extra=("text", {"article_index": 1, "chunk_index": 9}, VECTORS[0, :5]))
            ),
            "expected vectors of dimension 8, got (5,) at id 'extra'; embed the corpus with one embedder",
        ),
        (
            lambda folder: save_pickled(
                folder, entries(extra=("text", {"article_index": 1, "chunk_index": -1}, VECTORS[0]))
            ),
            "expected article_index and chunk_index from 0 to 2147483647, got int64 from -1 to 1",
        ),
        (
            lambda folder: save_pickled(
                folder, entries(extra=("text", {"article_index": 1, "chunk_index": 1}, VECTORS[0]))
            ),
            "got 1 duplicate keys, the first (article 1, chunk 1)",
        ),
        (
            lambda folder: faulty_parquet(folder, pa.array([[1.0], [2.0]], pa.list_(pa.float32())), **KEYS),
            "expected vector as a fixed-size list of float16 or float32, got list<",
        ),
        (
            lambda folder: faulty_parquet(folder, pa.array([[1.0], [2.0]], pa.list_(pa.float32(), 1))),
            "expected the columns vector, article_index and chunk_index, got vector; add article_index, chunk_index",
        ),
    ],
)
def test_what_is_no_payload_is_refused_in_one_line(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        import_payload(make(tmp_path), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0, 5, 60, 200])
def test_a_truncated_npy_is_one_line(tmp_path: Path, keep: int) -> None:
    file = save_pickled(tmp_path, entries())
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"payload.npy: expected .*; (fetch it again|check the path)") as caught:
        read_rows(file)
    assert "\n" not in str(caught.value)


def test_a_truncated_parquet_is_one_line(make_payload: MakePayload, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    write_parquet(make_payload([2, 2], vectors=VECTORS), file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"x.parquet: expected Parquet, got a damaged file") as caught:
        read_rows(file)
    assert "\n" not in str(caught.value)


def test_keys_of_another_length_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", VECTORS)
    np.save(tmp_path / "keys.npy", np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r"keys.npy: expected integers \(4, 2\), .* got \(3, 2\) of int64"):
        read_rows(tmp_path / "vectors.npy", keys=tmp_path / "keys.npy")
