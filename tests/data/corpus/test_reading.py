import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.corpus.articles import Article
from data.corpus.reading import read_corpus

ARTICLES = [Article("one", ("first paragraph", "second")), Article("two", ("é",))]
ENTRIES = [{"article": article.title, "paragraphs": list(article.paragraphs)} for article in ARTICLES]


def write_lines(folder: Path, name: str, *entries: Any) -> Path:
    text = "\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    file = folder / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return file


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_lines_are_articles_and_empty_ones_are_passed_over(tmp_path: Path, name: str) -> None:
    assert list(read_corpus(write_lines(tmp_path, name, ENTRIES[0], "", ENTRIES[1]))) == ARTICLES


def test_parquet_rows_are_articles(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ENTRIES), tmp_path / "x.parquet")
    assert list(read_corpus(tmp_path / "x.parquet")) == ARTICLES


def test_files_of_a_folder_are_articles_in_the_order_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.md").write_text("third")
    (tmp_path / "a.txt").write_text("first\nline\n\n \nsecond")
    (tmp_path / "c.py").write_text("no text")
    for name in "zyx":
        (tmp_path / f"{name}.txt").write_text(name)
    assert list(read_corpus(tmp_path)) == [
        Article("a.txt", ("first\nline", "second")),
        Article("sub/b.md", ("third",)),
    ] + [Article(f"{name}.txt", (name,)) for name in "xyz"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.jsonl", "none.jsonl: expected a corpus, got nothing there; check the path"),
        (lambda folder: write_lines(folder, "x.csv", "a"), "got x.csv; convert it"),
        (
            lambda folder: write_lines(folder, "x.jsonl", ENTRIES[0], "{"),
            "x.jsonl:2: expected a line of JSON, got JSONDecodeError",
        ),
        (
            lambda folder: write_lines(folder, "x.jsonl", {"title": "t", "text": "x"}),
            'x.jsonl:1: expected {"article": text, "paragraphs": [text, ...]}, got title, text; convert it first',
        ),
        (lambda folder: write_lines(folder, "x.jsonl", "[1]"), 'paragraphs": [text, ...]}, got list; convert it first'),
        (
            lambda folder: write_lines(folder, "x.jsonl", {"article": "t", "paragraphs": [1]}),
            "got article, paragraphs; convert it first",
        ),
        (lambda folder: folder, "expected .txt or .md files, got none; give a folder of texts"),
    ],
)
def test_what_is_no_corpus_is_refused_in_one_line(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        list(read_corpus(make(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_truncated_gzip_is_one_line(tmp_path: Path) -> None:
    file = write_lines(tmp_path, "x.jsonl.gz", *ENTRIES)
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(
        ValueError, match=r"x.jsonl.gz:\d+: expected a line of JSON, got EOFError .*; fetch the file again"
    ):
        list(read_corpus(file))
