"""The payload: the corpus that is searched, one row a chunk, memory-mapped from a folder.

    payload/
      vectors.npy          (N, D) float32 or float16, unit rows
      article_index.npy    (N,) int32
      chunk_index.npy      (N,) int32, position in the article
      texts.bin            the chunks' texts, UTF-8, one after the other
      text_offsets.npy     (N + 1,) int64, bytes into texts.bin
      payload.json         provenance, sizes, titles of the articles
      source_rows.npy      (N,) int32, number of each row in the file it came from; only if that had another order

Letters: N rows, D vector dimension. Rows are sorted by (article_index, chunk_index).
"""

import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DamagedError, MissingFileError, UserError
from data.io import open_array, read_json, write_json
from data.output import GONE, find_damage, output_folder
from data.payload.keys import Int32, Int64, combine

Vectors = NDArray[np.float32] | NDArray[np.float16]

UNKNOWN_EMBEDDER = "unknown"

KIND = "payload"
"""What its folder's marker calls it, see data.output."""

AGAIN = "build the payload again"
_ARRAYS = ("vectors.npy", "article_index.npy", "chunk_index.npy", "text_offsets.npy")
_SOURCE_ROWS = "source_rows.npy"
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where the vectors of a payload come from; two payloads with the same sha256 hold the same vectors and keys."""

    embedder: str
    norm: str = "l2_once"
    metric: str = "ip"
    sha256: str = ""
    created_at: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)


class Payload:
    """A corpus opened from its folder: vectors and keys as read-only maps, texts and titles on demand."""

    def __init__(self, path: Path) -> None:
        meta = _read_meta(path)
        self.path = path
        self.provenance = Provenance(**meta["provenance"])
        self.vectors: Vectors = open_array(path / "vectors.npy", (meta["num_rows"], meta["dim"]))
        self.article_index: Int32 = open_array(path / "article_index.npy", (meta["num_rows"],))
        self.chunk_index: Int32 = open_array(path / "chunk_index.npy", (meta["num_rows"],))
        self._offsets: Int64 = open_array(path / "text_offsets.npy", (meta["num_rows"] + 1,))
        self._titles: dict[str, str] = meta["titles"]
        _check_texts(path / "texts.bin", int(self._offsets[-1]))

    @property
    def num_rows(self) -> int:
        """Number of chunks, N."""
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        """Dimension of a vector, D."""
        return int(self.vectors.shape[1])

    @cached_property
    def source_rows(self) -> Int32 | None:
        """Number of each row in the file that the payload came from, (N,); None for the same order.

        An index that was built from that file uses these numbers.
        """
        file = self.path / _SOURCE_ROWS
        return open_array(file, (self.num_rows,)) if file.is_file() else None

    @cached_property
    def num_articles(self) -> int:
        """Number of different articles."""
        return len(np.unique(self.article_index))

    def text(self, row: int) -> str:
        """Return the text of one chunk; an empty string where the payload was made without texts."""
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        with (self.path / "texts.bin").open("rb") as file:
            file.seek(start)
            return file.read(stop - start).decode()

    def texts(self) -> list[str]:
        """Return the texts of all chunks, in the order of the rows."""
        content = (self.path / "texts.bin").read_bytes()
        offsets = self._offsets.tolist()
        return [content[start:stop].decode() for start, stop in pairwise(offsets)]

    def article_title(self, article_index: int) -> str:
        """Return the title of an article; its number where it has none."""
        return self._titles.get(str(article_index), f"article {article_index}")


def open_payload(folder: str | Path, *, verify: bool = False) -> Payload:
    """Open a payload folder without reading its vectors: sizes and samples of its files; `verify` reads all of them.

    Raises:
        DamagedError: a file is not as its marker says it was written.
        MissingFileError: the folder or one of its files is missing.
        UserError: a file is truncated, has another shape than payload.json says, or (verify) another content.
    """
    damage = find_damage(Path(folder), KIND, fully=verify)
    if damage is not None:
        name, what = damage
        error = MissingFileError if what == GONE else DamagedError
        raise error(f"{Path(folder) / name}: expected the file as it was written, got {what}; {AGAIN}")
    payload = Payload(Path(folder))
    if verify:
        found = content_sha256(payload.vectors, payload.article_index, payload.chunk_index)
        if found != payload.provenance.sha256:
            raise UserError(
                f"{payload.path}: expected content sha256 {payload.provenance.sha256[:12]}, got {found[:12]}; "
                f"a file was altered after it was written, {AGAIN}"
            )
    return payload


def write_payload(
    folder: str | Path,
    *,
    vectors: Vectors,
    article_index: Int32,
    chunk_index: Int32,
    texts: Sequence[str] | None = None,
    titles: Mapping[int, str] | None = None,
    embedder: str,
    source: Mapping[str, Any] | None = None,
    source_rows: Int32 | None = None,
) -> Payload:
    """Write a payload folder in one step: a reader sees all of it or nothing.

    Args:
        folder: Where it goes; an existing payload of ours there is replaced, see data.output.
        vectors: (N, D) float32 or float16; written as they are, so normalise them before.
        article_index: (N,) article of each row.
        chunk_index: (N,) position of each row in its article.
        texts: N texts in the order of the rows, or None.
        titles: Title by article_index, or None.
        embedder: What made the vectors, with its version.
        source: Anything that says where the texts came from; plain JSON values.
        source_rows: (N,) number of each row in the file it came from; None if that has the order given here.
    """
    target = Path(folder)
    _check_rows(target, vectors, article_index, chunk_index, texts)
    with output_folder(target, KIND) as temporary:
        order = np.argsort(combine(article_index, chunk_index), kind="stable")
        articles, chunks = article_index[order].astype(np.int32), chunk_index[order].astype(np.int32)
        ordered = _save_ordered(temporary / "vectors.npy", vectors, order)
        np.save(temporary / "article_index.npy", articles)
        np.save(temporary / "chunk_index.npy", chunks)
        stood = order if source_rows is None else source_rows[order]
        if np.any(stood != np.arange(len(order))):
            np.save(temporary / _SOURCE_ROWS, stood.astype(np.int32))
        _write_texts(temporary, (texts[row] if texts is not None else "" for row in order), len(order))
        sha256 = content_sha256(ordered, articles, chunks)
        created_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        provenance = Provenance(embedder=embedder, sha256=sha256, created_at=created_at, source=dict(source or {}))
        _write_meta(temporary, provenance, ordered, titles or {})
    return open_payload(target)


def content_sha256(*arrays: NDArray[Any]) -> str:
    """Hash arrays with their dtypes and shapes, in blocks: memory stays flat for any N.

    A payload's hash is that of vectors, article_index and chunk_index.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        row_bytes = max(1, array.nbytes // max(1, len(array)))
        step = max(1, _BLOCK_BYTES // row_bytes)
        for start in range(0, len(array), step):
            digest.update(np.ascontiguousarray(array[start : start + step]).data)
    return digest.hexdigest()


def _check_rows(target: Path, vectors: Vectors, articles: Int32, chunks: Int32, texts: Sequence[str] | None) -> None:
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise UserError(
            f"{target}: expected vectors (N, D) of float32 or float16, got {vectors.shape} {vectors.dtype}; convert"
        )
    lengths = {"article_index": len(articles), "chunk_index": len(chunks)}
    if texts is not None:
        lengths["texts"] = len(texts)
    for name, length in lengths.items():
        if length != len(vectors):
            raise UserError(f"{target}: expected {len(vectors)} entries in {name}, got {length}; one for each vector")
    if len(vectors) and min(articles.min(), chunks.min()) < 0:
        raise UserError(
            f"{target}: expected article_index and chunk_index from 0, got {min(articles.min(), chunks.min())}; "
            "number articles and chunks from 0"
        )
    keys = np.sort(combine(articles, chunks))
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated):
        article, chunk = int(repeated[0] >> 32), int(repeated[0] & 0xFFFFFFFF)
        raise UserError(
            f"{target}: expected one row for each truth key, got {len(repeated)} duplicate keys, the first "
            f"(article {article}, chunk {chunk}); drop the repeated chunks or number them again"
        )


def _write_meta(folder: Path, provenance: Provenance, vectors: Vectors, titles: Mapping[int, str]) -> None:
    meta = {
        "provenance": asdict(provenance),
        "num_rows": vectors.shape[0],
        "dim": vectors.shape[1],
        "dtype": str(vectors.dtype),
        "titles": {str(article): title for article, title in titles.items()},
    }
    write_json(folder / "payload.json", meta)


def _save_ordered(file: Path, vectors: Vectors, order: Int64) -> Vectors:
    """Save the rows in this order, in blocks, and return them as a map: the vectors are never copied as a whole."""
    with file.open("wb") as opened:
        header = {"descr": vectors.dtype.str, "fortran_order": False, "shape": vectors.shape}
        np.lib.format.write_array_header_1_0(opened, header)
        step = max(1, _BLOCK_BYTES // max(1, vectors[:1].nbytes))
        for start in range(0, len(order), step):
            opened.write(np.ascontiguousarray(vectors[order[start : start + step]]).data)
    saved: Vectors = np.load(file, mmap_mode="r")
    return saved


def _write_texts(folder: Path, texts: Iterable[str], num: int) -> None:
    offsets = np.zeros(num + 1, np.int64)
    with (folder / "texts.bin").open("wb") as file:
        for position, text in enumerate(texts):
            offsets[position + 1] = offsets[position] + file.write(text.encode())
    np.save(folder / "text_offsets.npy", offsets)


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / "payload.json"
    if not file.is_file():
        raise MissingFileError(
            f"{path}: expected a payload folder with payload.json, got none; make one with python -m data.build"
        )
    meta: dict[str, Any] = read_json(file)
    return meta


def _check_texts(file: Path, num_bytes: int) -> None:
    found = file.stat().st_size if file.is_file() else -1
    if found != num_bytes:
        raise UserError(
            f"{file}: expected {num_bytes} bytes, got {'no file' if found < 0 else found}; build the payload again"
        )
