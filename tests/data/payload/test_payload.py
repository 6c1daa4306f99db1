import json

import numpy as np
import pytest

from data.output import MARKER
from data.payload.store import open_payload, write_payload
from tests.data.helpers import MakePayload, unit_rows


def test_a_payload_gives_back_what_was_written(make_payload: MakePayload) -> None:
    payload = open_payload(make_payload([2, 3], dim=4).path, verify=True)
    assert (payload.num_rows, payload.dim, payload.num_articles) == (5, 4, 2)
    np.testing.assert_array_equal(payload.vectors, unit_rows(5, 4))
    assert payload.article_index.tolist() == [0, 0, 1, 1, 1]
    assert payload.chunk_index.tolist() == [0, 1, 0, 1, 2]
    assert [payload.text(row) for row in (0, 4)] == ["text 0", "text 4"]
    assert payload.article_title(1) == "title 1"
    assert (payload.provenance.embedder, payload.provenance.norm, payload.provenance.metric) == (
        "random",
        "l2_once",
        "ip",
    )


def test_rows_are_sorted_by_key_with_their_texts(make_payload: MakePayload) -> None:
    payload = make_payload(
        [3],
        dim=4,
        article_index=np.array([1, 0, 1], np.int32),
        chunk_index=np.array([1, 0, 0], np.int32),
        texts=["b1", "a0", "b0 é"],
    )
    assert [payload.text(row) for row in range(3)] == ["a0", "b0 é", "b1"]
    np.testing.assert_array_equal(payload.vectors, unit_rows(3, 4)[[1, 2, 0]])
    assert payload.source_rows is not None
    assert payload.source_rows.tolist() == [1, 2, 0]


def test_vectors_are_a_read_only_map_in_their_own_type(make_payload: MakePayload) -> None:
    payload = make_payload([4], vectors=unit_rows(4, 8).astype(np.float16))
    assert isinstance(payload.vectors, np.memmap)
    assert payload.vectors.dtype == np.float16
    with pytest.raises(ValueError, match="read-only"):
        payload.vectors[0, 0] = 1


def test_the_sha256_names_the_content_and_not_the_time_or_the_folder(make_payload: MakePayload) -> None:
    first, second = make_payload([4], name="a"), make_payload([4], name="b")
    other = make_payload([4], name="c", seed=1)
    assert first.provenance.sha256 == second.provenance.sha256 != other.provenance.sha256


def test_writing_again_replaces_the_folder_and_leaves_nothing_beside_it(make_payload: MakePayload) -> None:
    make_payload([4])
    payload = make_payload([6])
    assert payload.num_rows == 6
    assert [entry.name for entry in payload.path.parent.iterdir()] == ["payload"]


def test_an_altered_vector_is_found_by_verify(make_payload: MakePayload) -> None:
    payload = make_payload([4])
    file = payload.path / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"vectors.npy: expected the file as it was written, got another content; bui"):
        open_payload(payload.path)
    (payload.path / MARKER).unlink()  # as an earlier version wrote it
    open_payload(payload.path)
    with pytest.raises(ValueError, match=r"expected content sha256 .* a file was altered after it was written"):
        open_payload(payload.path, verify=True)


@pytest.mark.parametrize("name", ["vectors.npy", "article_index.npy", "text_offsets.npy", "texts.bin"])
def test_a_truncated_file_is_named(make_payload: MakePayload, name: str) -> None:
    file = make_payload([4]).path / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"{name}: expected .* build the payload again") as caught:
        open_payload(file.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["payload.json", "vectors.npy", "chunk_index.npy"])
def test_a_missing_file_is_named(make_payload: MakePayload, name: str) -> None:
    file = make_payload([4]).path / name
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected .*{name}|{name}: expected"):
        open_payload(file.parent)


def test_an_array_of_another_shape_is_refused(make_payload: MakePayload) -> None:
    path = make_payload([4]).path
    meta = json.loads((path / "payload.json").read_text())
    (path / "payload.json").write_text(json.dumps({**meta, "num_rows": 5}))
    (path / MARKER).unlink()
    with pytest.raises(ValueError, match=r"vectors.npy: expected shape \(5, 16\), got \(4, 16\)"):
        open_payload(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vectors": unit_rows(4, 8).astype(np.float64)},
            r"expected vectors \(N, D\) of float32 or float16, got \(4, 8\)",
        ),
        ({"article_index": np.array([0, 0, -1, 0], np.int32)}, "expected article_index and chunk_index from 0, got -1"),
        ({"texts": ["a"]}, "expected 4 entries in texts, got 1; one for each vector"),
        ({"chunk_index": np.arange(3, dtype=np.int32)}, "expected 4 entries in chunk_index, got 3"),
        (
            {"chunk_index": np.array([0, 1, 1, 2], np.int32)},
            r"got 1 duplicate keys, the first \(article 0, chunk 1\)",
        ),
    ],
)
def test_rows_that_do_not_fit_together_are_not_written(
    make_payload: MakePayload, tmp_path: object, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_payload([4], **changes)
    assert list(tmp_path.iterdir()) == []  # type: ignore[attr-defined]


def test_a_payload_without_texts_has_empty_ones(tmp_path: object) -> None:
    payload = write_payload(
        tmp_path / "p",  # type: ignore[operator]
        vectors=unit_rows(2, 4),
        article_index=np.zeros(2, np.int32),
        chunk_index=np.arange(2, dtype=np.int32),
        embedder="random",
    )
    assert payload.text(1) == ""
    assert payload.article_title(0) == "article 0"
