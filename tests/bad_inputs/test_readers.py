"""Whatever bytes a reader of somebody else's file meets, it returns data or one error for people, and soon.

Hypothesis spoils a good file: it changes, drops, adds and repeats bytes. `NEXT_VECTOR_EXAMPLES=20000` looks longer.
"""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from data.errors import UserError
from data.foreign.formats import read_pickled_dict
from data.foreign.npz import Npz
from data.foreign.unpickle import load_pickle
from data.io import read_json, read_json_lines
from data.payload.store import write_payload
from data.preflight.check import Check
from evaluation.config import IndexConfig
from evaluation.service.index_check import check_index_file
from orchestrator.config.yaml_source import read_yaml
from tests.bad_inputs.makers import EXPERIMENT

EXAMPLES = int(os.environ.get("NEXT_VECTOR_EXAMPLES", "200"))
LONGEST_MS = 10_000
VECTORS = np.tile(np.eye(4, dtype=np.float32), (20, 1))


def good_pickle() -> bytes:
    content = {"vectors": np.ones((3, 4), np.float32), "keys": [(1, 2), (3, 4)], "names": {"a": np.int64(3)}}
    return pickle.dumps(content, protocol=4)


def good_dict() -> bytes:
    """As the original project's payload: an array of one object, a dict."""
    entries = {row: ("text", {"article_index": row, "chunk_index": 0}, np.ones(4, np.float32)) for row in range(3)}
    file = io.BytesIO()
    np.save(file, np.array(entries, dtype=object), allow_pickle=True)
    return file.getvalue()


def good_npz() -> bytes:
    file = io.BytesIO()
    context, target = np.ones((4, 5, 3), np.float32), np.ones((4, 3), np.float32)
    np.savez(file, context=context, target=target, stats=np.array('{"n": 4}'))
    return file.getvalue()


def good_index() -> bytes:
    index = faiss.index_factory(4, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(VECTORS)
    index.add(VECTORS)
    return faiss.serialize_index(index).tobytes()


def read_npz(path: Path) -> None:
    with Npz(path) as archive:
        for name in archive.names:
            archive.json(name) if name == "stats" else archive.array(name)


def read_pickle(path: Path) -> None:
    with path.open("rb") as file:
        load_pickle(file, path)


LINES = b'{"epoch": 1, "loss": 0.5, "smoke": {"r@5": 0.2}}\n{"epoch": 2, "loss": NaN, "why": "\\u00e9\\ud83d"}\n'
READERS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "pickle": (good_pickle(), read_pickle),
    "pickled dict": (good_dict(), read_pickled_dict),
    "npz": (good_npz(), read_npz),
    "YAML": (EXPERIMENT.encode() + b"extra: &a [1, *a, 2020-01-01, 0x1f, 1_000, .inf]\n", read_yaml),
    "JSON lines": (LINES, read_json_lines),
    "JSON": (LINES.splitlines()[0], read_json),
}

NPZ, FLAGS, UTF_8 = READERS["npz"][0], b"PK\x03\x04-\x00\x00\x00", b"PK\x03\x04-\x00\x00\x08"
FOUND = {  # by this test, when it looked at 20,000 of each
    "pickle": [b"\x80\x02]r\xff\xff\xff\x7f."],  # gigabytes for the number of a remembered object
    "npz": [
        NPZ.replace(b"context.npy", b"context.nqy"),  # a member that is no array
        NPZ.replace(b"<f4'", b"<f4("),  # a header that is no whole Python
        NPZ.replace(FLAGS, UTF_8).replace(b"xt.npy", b"xt.\x93py", 1),  # a name that is no UTF-8
    ],
}
PLACES = st.floats(0, 1, exclude_max=True)
EDITS = st.tuples(PLACES, st.sampled_from(["change", "drop", "add", "repeat"]), st.binary(min_size=1, max_size=12))


def spoiled(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for place, kind, other in edits:
        at = int(place * len(content))
        if kind == "change":
            content = content[:at] + other + content[at + len(other) :]
        elif kind == "drop":
            content = content[:at] + content[at + other[0] :]
        elif kind == "add":
            content = content[:at] + other + content[at:]
        else:
            content = content[:at] + content[at : at + other[0]] * 3 + content[at:]
    return content


def read_or_refuse(read: Callable[[Path], Any], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read(path)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("name", READERS)
def test_a_spoiled_file_is_data_or_one_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    good, read = READERS[name]
    for number, content in enumerate([good, *FOUND.get(name, ())]):
        read_or_refuse(read, tmp_path / str(number), content)

    @settings(max_examples=EXAMPLES, deadline=LONGEST_MS, database=None, derandomize=True)
    @given(st.lists(EDITS, min_size=1, max_size=4).map(lambda edits: spoiled(good, edits)) | st.binary(max_size=200))
    def look(content: bytes) -> None:
        read_or_refuse(read, tmp_path / "spoiled", content)

    look()


def test_a_spoiled_index_file_fails_its_check_or_passes_it_and_nothing_crashes_here(tmp_path: Path) -> None:
    good, path = good_index(), tmp_path / "spoiled.faiss"
    articles, chunks = np.repeat(np.arange(8, dtype=np.int32), 10), np.tile(np.arange(10, dtype=np.int32), 8)
    texts = [str(number) for number in range(80)]
    keys = {"article_index": articles, "chunk_index": chunks}
    write_payload(tmp_path / "payload", vectors=VECTORS, **keys, texts=texts, embedder="bad-4")
    each = {"deadline": None, "database": None, "derandomize": True, "phases": [Phase.generate]}

    def check(content: bytes) -> Check:
        path.write_bytes(content)
        return check_index_file(IndexConfig(kind="ivf_flat", file=str(path)), tmp_path / "payload", ())[0]

    assert (check(good).name, check(good).passed) == ("index_file", True)
    assert not check(good[:40]).passed

    @settings(max_examples=max(4, EXAMPLES // 50), **each)
    @given(st.lists(EDITS, min_size=1, max_size=3))
    def look(edits: list[tuple[float, str, bytes]]) -> None:
        assert check(spoiled(good, edits)).name == "index_file"

    look()
