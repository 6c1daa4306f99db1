"""Payloads of other programs, read into the project's own folder, and Parquet written from it.

| given                                    | read as                                                                   |
|------------------------------------------|---------------------------------------------------------------------------|
| X.npy, a pickled dict                    | {id: (text, {"article_index", "chunk_index", ...}, vector)}               |
| X.npy, (N, D) numbers, with a keys file  | keys (N, 2) int: article_index, chunk_index                               |
| X.parquet, or a folder of them           | vector (fixed-size list of float16/32), article_index, chunk_index, text? |
| a folder with payload.json               | the project's own payload, see data.payload                              |

Vectors are taken as they are and never normalised here. The preflight checks their norms.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MissingFileError, UserError
from data.foreign.parquet import read_parquet
from data.foreign.rows import Rows, as_float, as_int32
from data.foreign.unpickle import load_pickle
from data.io import check_file, file_sha256
from data.payload.store import Payload, open_payload, write_payload


def import_payload(source: Path, out: Path, *, keys: Path | None = None, embedder: str | None = None) -> Payload:
    """Turn any known payload file into a payload folder.

    Args:
        source: One of the forms in the table above.
        out: Folder of the new payload; replaced if it exists.
        keys: The keys file of a plain array.
        embedder: Who made the vectors, for files that do not say.

    Raises:
        MissingFileError: a file is missing.
        UserError: a file is damaged, of another form, or asks for code.
    """
    rows = read_rows(source, keys=keys)
    return write_payload(
        out,
        vectors=rows.vectors,
        article_index=rows.article_index,
        chunk_index=rows.chunk_index,
        texts=rows.texts,
        titles=rows.titles,
        embedder=embedder or rows.embedder,
        source=_described(source),
        source_rows=rows.source_rows,
    )


def read_rows(source: Path, *, keys: Path | None = None) -> Rows:
    """Read a payload in any known form; see the table of this module."""
    if not os.path.lexists(source):
        raise MissingFileError(f"{source}: expected a payload file, got none; check the path")
    if not source.is_dir():
        check_file(source, "a payload file")
    if source.suffix == ".parquet" or (source.is_dir() and any(source.glob("*.parquet"))):
        return read_parquet(source)
    if (source / "payload.json").is_file():
        return _rows_of_payload(open_payload(source))
    if source.suffix != ".npy":
        raise UserError(f"{source}: expected .npy, .parquet or a payload folder, got {source.name}; convert it first")
    return read_array(source, keys) if keys is not None else read_pickled_dict(source)


def read_pickled_dict(source: Path) -> Rows:
    """Read {id: (text, {"article_index", "chunk_index", ...}, vector)} from a pickled .npy; none of its code runs."""
    with source.open("rb") as file:
        shape, dtype = read_npy_header(file, source)
        if not dtype.hasobject:
            raise UserError(
                f"{source}: expected a pickled dict, got an array {shape} of {dtype}; "
                "give the keys of its rows with --keys"
            )
        content = load_pickle(file, source)
    entries = content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    if not isinstance(entries, dict) or not entries:
        raise UserError(
            f"{source}: expected a dict {{id: (text, keys, vector)}}, got {type(entries).__name__}; convert it first"
        )
    return _rows_of_entries(source, entries)


def read_array(source: Path, keys: Path) -> Rows:
    """Read a plain (N, D) array, mapped, and the (N, 2) keys of its rows."""
    vectors, pairs = _load_numbers(source, mapped=True), _load_numbers(keys, mapped=False)
    if pairs.ndim != 2 or pairs.shape != (len(vectors), 2) or pairs.dtype.kind not in "iu":
        raise UserError(
            f"{keys}: expected integers ({len(vectors)}, 2), article_index and chunk_index of each row, "
            f"got {pairs.shape} of {pairs.dtype}; write one pair for each vector"
        )
    return Rows(
        vectors=as_float(vectors, source),
        article_index=as_int32(pairs[:, 0], keys),
        chunk_index=as_int32(pairs[:, 1], keys),
    )


def read_npy_header(file: IO[bytes], where: Path) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Read shape and dtype of a .npy and leave the file at its first byte of data."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except (ValueError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        # numpy reads the header as Python text: it splits it into tokens, then evaluates the literal
        raise UserError(f"{where}: expected a .npy file, got another ({error}); check the path") from None
    if is_fortran and len(shape) > 1:
        raise UserError(f"{where}: expected rows in C order, got Fortran order; save np.ascontiguousarray of it")
    return shape, dtype


def _rows_of_entries(source: Path, entries: dict[Any, Any]) -> Rows:
    num, vectors = len(entries), np.empty((0, 0), np.float32)
    articles, chunks, texts, titles = np.empty(num, np.int64), np.empty(num, np.int64), [], {}
    for row, (name, (text, keys, vector)) in enumerate(_checked(source, entries)):
        if row == 0:
            vectors = np.empty((num, len(vector)), np.float16 if vector.dtype == np.float16 else np.float32)
        if vector.shape != vectors.shape[1:]:
            raise UserError(
                f"{source}: expected vectors of dimension {vectors.shape[1]}, got {vector.shape} at id {name!r}; "
                "embed the corpus with one embedder"
            )
        vectors[row], articles[row], chunks[row] = vector, keys["article_index"], keys["chunk_index"]
        texts.append(text)
        if isinstance(title := keys.get("title", keys.get("article_title")), str):
            titles[int(keys["article_index"])] = title
    return Rows(
        vectors=vectors,
        article_index=as_int32(articles, source),
        chunk_index=as_int32(chunks, source),
        texts=texts,
        titles=titles,
    )


def _checked(source: Path, entries: dict[Any, Any]) -> Iterator[tuple[Any, tuple[str, dict[str, Any], NDArray[Any]]]]:
    """Yield each entry once it has the right form, and let go of it: the vectors are in memory only once."""
    for name in list(entries):
        entry = entries.pop(name)
        match entry:
            case (str(), dict(), vector) if isinstance(vector, np.ndarray | list):
                keys, array = entry[1], np.asarray(vector)
                if array.ndim == 1 and array.dtype.kind == "f" and _has_keys(keys):
                    yield name, (entry[0], keys, array)
                    continue
        raise UserError(
            f"{source}: expected (text, {{'article_index', 'chunk_index'}}, vector) at id {name!r}, "
            f"got {_describe(entry)}; convert it first"
        )


def _has_keys(keys: dict[str, Any]) -> bool:
    return all(isinstance(keys.get(name), int) for name in ("article_index", "chunk_index"))


def _describe(entry: Any) -> str:
    if isinstance(entry, tuple | list):
        return f"({', '.join(type(part).__name__ for part in entry)})"
    return type(entry).__name__


def _rows_of_payload(payload: Payload) -> Rows:
    articles = np.unique(payload.article_index).tolist()
    return Rows(
        vectors=payload.vectors,
        article_index=payload.article_index,
        chunk_index=payload.chunk_index,
        texts=payload.texts(),
        titles={article: payload.article_title(article) for article in articles},
        embedder=payload.provenance.embedder,
        source_rows=payload.source_rows,
    )


def _load_numbers(file: Path, *, mapped: bool) -> NDArray[Any]:
    check_file(file, "an array")
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise MissingFileError(f"{file}: expected an array, got no file; check the path") from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{file}: expected an array of numbers, got another file ({error}); check the path") from None
    return array


def _described(source: Path) -> dict[str, Any]:
    """Return name and size of what was read; of a .npy its sha256, too, which the original project's files name."""
    files = source.rglob("*") if source.is_dir() else [source]
    size = sum(file.stat().st_size for file in files if file.is_file())
    digest = {"file_sha256": file_sha256(source)} if source.suffix == ".npy" else {}
    return {"kind": "file", "file": source.name, "bytes": size, **digest}
