"""Text to a payload, in parallel and resumable.

    python -m data.embed --corpus articles.jsonl.gz --out artifacts/books
    python -m data.embed --corpus texts/ --out artifacts/texts --chunk sentence --min-chars 20 --max-chars 300
    python -m data.embed --corpus articles.parquet --out artifacts/gtr --embedder sentence-transformers/gtr-t5-base

What it makes is opened with `source: payload` and `payload: artifacts/books` in an experiment. Stopped and started
again with the same options, it goes on at the next shard. Forms of a corpus:
data.corpus.reading. Embedders: data.corpus.embedders.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.corpus.docstrings import Article, corpus_sha256
from data.corpus.embedders import WORDLLAMA, embed_wordllama, embedder_id, wordllama_id
from data.corpus.reading import ChunkRule, chunk, read_corpus
from data.corpus.shards import Runner, embed_in_shards, local_runner, ray_runner
from data.errors import UserError
from data.interrupt import Interrupt
from data.payload.store import Payload
from data.prepare import write_articles

__all__ = ["embed_corpus", "embed_wordllama", "wordllama_id"]

SHARD_CHUNKS = 8_192


def embed_corpus(
    corpus: Path,
    out: Path,
    *,
    embedder: str = WORDLLAMA,
    rule: ChunkRule | None = None,
    shard_chunks: int = SHARD_CHUNKS,
    dtype: str = "float32",
    runner: Runner = ray_runner,
) -> Payload:
    """Read a corpus, cut it, embed its chunks and write them as a payload.

    Args:
        corpus: A file or folder, see data.corpus.reading.
        out: Folder of the payload; finished shards are kept beside it, in `out`.embedding, until it is written.
        embedder: wordllama, or a sentence-transformers model by name or folder.
        rule: How articles are cut.
        shard_chunks: Chunks of a shard: what is lost at most when the work is stopped.
        dtype: float32 or float16, the type in which vectors are stored.
        runner: What embeds the shards; by default Ray Data.

    Raises:
        MissingFileError: the corpus is missing.
        UserError: the corpus has another form, no chunk is long enough, or the shards belong to other options.
    """
    rule = rule or ChunkRule()
    articles = [Article(article.title, chunk(article, rule)) for article in read_corpus(corpus)]
    articles = [article for article in articles if article.paragraphs]
    if not articles:
        raise UserError(
            f"{corpus}: expected paragraphs of {rule.min_chars} characters or more, got none; lower min_chars"
        )
    texts = [text for article in articles for text in article.paragraphs]
    source = {
        "kind": "corpus",
        "corpus": corpus.name,
        "chunk": rule.unit,
        "min_chars": rule.min_chars,
        "max_chars": rule.max_chars,
        "corpus_sha256": corpus_sha256(articles),
    }
    identity = embedder_id(embedder)
    folder = out.with_name(f"{out.name}.embedding")
    plan = {**source, "embedder": identity}
    vectors = embed_in_shards(texts, folder, embedder=embedder, plan=plan, shard_texts=shard_chunks, runner=runner)
    payload = write_articles(out, articles, vectors.astype(np.dtype(dtype), copy=False), identity, source)
    shutil.rmtree(folder)
    return payload


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when the payload is written, 2 when the input is refused, 130 when stopped."""
    options = _parser().parse_args(arguments)
    try:
        with Interrupt():
            payload = embed_corpus(
                options.corpus,
                options.out,
                embedder=options.embedder,
                rule=ChunkRule(unit=options.chunk, min_chars=options.min_chars, max_chars=options.max_chars),
                shard_chunks=options.shard_chunks,
                dtype=options.dtype,
                runner=local_runner if options.local else ray_runner,
            )
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command goes on at the next shard\n")
        return 130
    sys.stdout.write(
        f"payload   {payload.num_rows:,} chunks of {payload.num_articles:,} articles, dimension {payload.dim}, "
        f"{payload.vectors.dtype}, embedder {payload.provenance.embedder}\n"
        f"use it    source: payload, payload: {options.out}\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    rule = ChunkRule()
    parser = argparse.ArgumentParser(
        prog="python -m data.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help=".jsonl(.gz), .parquet or a folder of .txt and .md")
    parser.add_argument("--out", type=Path, required=True, help="folder of the payload to make")
    parser.add_argument("--chunk", choices=["paragraph", "sentence"], default=rule.unit)
    parser.add_argument("--min-chars", type=int, default=rule.min_chars)
    parser.add_argument("--max-chars", type=int, default=rule.max_chars)
    parser.add_argument("--embedder", default=WORDLLAMA, help="wordllama, or a sentence-transformers name or folder")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--shard-chunks", type=int, default=SHARD_CHUNKS)
    parser.add_argument("--local", action="store_true", help="embed in this process, without Ray")
    return parser


if __name__ == "__main__":
    sys.exit(main())
