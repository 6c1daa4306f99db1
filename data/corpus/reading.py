"""Read a corpus of texts.

| corpus                         | an article is                                                      |
|--------------------------------|--------------------------------------------------------------------|
| X.jsonl, X.jsonl.gz            | one line {"article": title, "paragraphs": [text, ...]}             |
| X.parquet                      | one row of the columns article (string) and paragraphs (list)      |
| a folder of .txt and .md       | one file; its name is the title, blank lines separate paragraphs   |
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from data.corpus.articles import Article
from data.corpus.chunking import split_paragraphs
from data.errors import MissingFileError, UserError
from data.io import check_file


def read_corpus(path: Path) -> Iterator[Article]:
    """Read the articles of a corpus in the order of lines, rows or sorted paths.

    Raises:
        MissingFileError: there is no such file or folder.
        UserError: the form is unknown, or a line does not have it.
    """
    if not path.exists():
        raise MissingFileError(f"{path}: expected a corpus, got nothing there; check the path")
    if path.is_dir():
        yield from _read_folder(path)
        return
    check_file(path, "a corpus")
    if path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".ndjson")):
        yield from _read_lines(path)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    else:
        raise UserError(
            f"{path}: expected .jsonl, .jsonl.gz, .parquet or a folder of .txt and .md, got {path.name}; convert it"
        )


def _read_lines(path: Path) -> Iterator[Article]:
    number = 0
    with _open_text(path) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _article(f"{path}:{number}", json.loads(line))
        except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: expected a line of JSON, got {type(error).__name__} ({error}); fetch the file again"
            ) from None


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _read_parquet(path: Path) -> Iterator[Article]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected Parquet, got a damaged file ({error}); fetch it again") from None
    missing = [name for name in ("article", "paragraphs") if name not in file.schema_arrow.names]
    if missing:
        raise UserError(
            f"{path}: expected the columns article and paragraphs, got {', '.join(file.schema_arrow.names)}; "
            f"add {', '.join(missing)}"
        )
    row = 0
    for batch in file.iter_batches(1024, columns=["article", "paragraphs"]):
        for entry in batch.to_pylist():
            yield _article(f"{path}, row {row}", entry)
            row += 1


def _read_folder(path: Path) -> Iterator[Article]:
    files = sorted(file for file in path.rglob("*") if file.suffix in (".txt", ".md") and file.is_file())
    if not files:
        raise UserError(f"{path}: expected .txt or .md files, got none; give a folder of texts")
    for file in files:
        paragraphs = split_paragraphs(file.read_text(encoding="utf-8", errors="replace"))
        yield Article(file.relative_to(path).as_posix(), tuple(paragraphs))


def _article(where: str, entry: Any) -> Article:
    match entry:
        case {"article": str(title), "paragraphs": list(paragraphs)} if all(isinstance(p, str) for p in paragraphs):
            return Article(title, tuple(paragraphs))
    found = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
    raise UserError(f'{where}: expected {{"article": text, "paragraphs": [text, ...]}}, got {found}; convert it first')
