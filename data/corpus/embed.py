"""A corpus of texts to a payload: read, cut, embed in shards, write."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.corpus.articles import Article, corpus_sha256, texts_of, write_articles
from data.corpus.chunking import ChunkRule, chunk
from data.corpus.embedders import WORDLLAMA, embedder_id
from data.corpus.reading import read_corpus
from data.corpus.repeats import drop_repeats
from data.corpus.shards import KIND as SHARDS_KIND
from data.corpus.shards import Runner, embed_in_shards, ray_runner
from data.errors import UserError
from data.output import check_folder, remove_made
from data.payload.store import KIND, Payload, Vectors

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
    repeats: Literal["drop", "keep"] = "drop",
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
        repeats: drop takes out what stands in several articles, see data.corpus.repeats.

    Raises:
        MissingFileError: the corpus is missing.
        UserError: `out` holds what we did not make, the corpus has another form, no chunk is long enough, or the
            shards belong to other options.
    """
    rule = rule or ChunkRule()
    folder = out.resolve().with_name(f"{out.resolve().name}.embedding")
    check_folder(out, KIND, [corpus])
    check_folder(folder, SHARDS_KIND, [corpus])
    articles = [Article(article.title, chunk(article.paragraphs, rule)) for article in read_corpus(corpus)]
    articles = [article for article in articles if article.paragraphs]
    if not articles:
        raise UserError(
            f"{corpus}: expected paragraphs of {rule.min_chars} characters or more, got none; lower min_chars"
        )
    source: dict[str, Any] = {
        "kind": "corpus",
        "corpus": corpus.name,
        "chunk": rule.unit,
        "min_chars": rule.min_chars,
        "max_chars": rule.max_chars,
        "corpus_sha256": corpus_sha256(articles),
    }
    identity = embedder_id(embedder)
    vectors: Vectors = embed_in_shards(
        texts_of(articles),
        folder,
        embedder=embedder,
        plan={**source, "embedder": identity},
        shard_texts=shard_chunks,
        runner=runner,
    )
    if repeats == "drop":
        articles, vectors, found = drop_repeats(articles, vectors)
        source["repeats"] = asdict(found)
    payload = write_articles(out, articles, vectors.astype(np.dtype(dtype), copy=False), identity, source)
    remove_made(folder, SHARDS_KIND)
    return payload
