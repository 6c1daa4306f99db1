"""Read a corpus of texts and cut its articles into chunks.

| corpus                         | an article is                                                      |
|--------------------------------|--------------------------------------------------------------------|
| X.jsonl, X.jsonl.gz            | one line {"article": title, "paragraphs": [text, ...]}             |
| X.parquet                      | one row of the columns article (string) and paragraphs (list)      |
| a folder of .txt and .md       | one file; its name is the title, blank lines separate paragraphs   |
"""

import gzip
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from data.corpus.docstrings import Article
from data.errors import MissingFileError, UserError

_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
# A sentence ends at . ! ? and perhaps a closing quote, before white space and what can begin a sentence.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-ÖØ-Þ])")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkRule:
    """How an article is cut: by paragraph, or by sentence; lengths in characters."""

    unit: Literal["paragraph", "sentence"] = "paragraph"
    min_chars: int = 40
    """Shorter paragraphs are left out; shorter sentences are joined with the next of their paragraph."""
    max_chars: int = 600
    """Longer pieces are split at the last space that fits."""

    def __post_init__(self) -> None:
        """Refuse lengths that leave nothing."""
        if self.min_chars < 1:
            raise UserError(f"min_chars: expected at least 1, got {self.min_chars}; the default is 40")
        if self.max_chars < self.min_chars:
            raise UserError(
                f"max_chars: expected at least min_chars = {self.min_chars}, got {self.max_chars}; raise it"
            )


def chunk(article: Article, rule: ChunkRule) -> tuple[str, ...]:
    """Cut an article into chunks in reading order; white space is folded, pieces below min_chars are left out."""
    chunks: list[str] = []
    for paragraph in article.paragraphs:
        folded = " ".join(paragraph.split())
        pieces = [folded] if rule.unit == "paragraph" else _sentences(folded, rule.min_chars)
        for piece in pieces:
            parts = [piece] if len(piece) <= rule.max_chars else textwrap.wrap(piece, rule.max_chars)
            chunks += [part for part in parts if len(part) >= rule.min_chars]
    return tuple(chunks)


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
    elif path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".ndjson")):
        yield from _read_lines(path)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    else:
        raise UserError(
            f"{path}: expected .jsonl, .jsonl.gz, .parquet or a folder of .txt and .md, got {path.name}; convert it"
        )


def _sentences(text: str, min_chars: int) -> list[str]:
    """Split at sentence ends; a sentence below min_chars is joined with the next, a short rest with the one before."""
    sentences: list[str] = []
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        if match.end() - begin >= min_chars:
            sentences.append(text[begin : match.end()].rstrip())
            begin = match.end()
    rest = text[begin:]
    if sentences and len(rest) < min_chars:
        sentences[-1] = f"{sentences[-1]} {rest}".rstrip()
    elif rest:
        sentences.append(rest)
    return sentences


def _read_lines(path: Path) -> Iterator[Article]:
    number = 0
    with _open_text(path) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _article(f"{path}:{number}", json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
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
        paragraphs = _PARAGRAPH_BREAK.split(file.read_text(encoding="utf-8", errors="replace"))
        yield Article(file.relative_to(path).as_posix(), tuple(paragraphs))


def _article(where: str, entry: Any) -> Article:
    match entry:
        case {"article": str(title), "paragraphs": list(paragraphs)} if all(isinstance(p, str) for p in paragraphs):
            return Article(title, tuple(paragraphs))
    found = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
    raise UserError(f'{where}: expected {{"article": text, "paragraphs": [text, ...]}}, got {found}; convert it first')
