"""An article: an ordered run of texts under one title. Many of them, with their vectors, become a payload."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.payload.store import Payload, Vectors, write_payload


@dataclass(frozen=True, slots=True)
class Article:
    """An ordered run of paragraphs under one title."""

    title: str
    paragraphs: tuple[str, ...]


def texts_of(articles: Iterable[Article]) -> list[str]:
    """Return all paragraphs in reading order."""
    return [paragraph for article in articles for paragraph in article.paragraphs]


def corpus_sha256(articles: Iterable[Article]) -> str:
    """Hash titles and paragraphs in order."""
    digest = hashlib.sha256()
    for article in articles:
        for part in (article.title, *article.paragraphs):
            digest.update(part.encode() + b"\0")
        digest.update(b"\1")
    return digest.hexdigest()


def write_articles(
    folder: Path, articles: Sequence[Article], vectors: Vectors, embedder: str, source: Mapping[str, Any]
) -> Payload:
    """Write articles and the vectors of their paragraphs, (N, D) in reading order, as a payload."""
    sizes = np.array([len(article.paragraphs) for article in articles], np.int64)
    starts = np.cumsum(sizes) - sizes
    return write_payload(
        folder,
        vectors=vectors,
        article_index=np.repeat(np.arange(len(articles), dtype=np.int32), sizes),
        chunk_index=(np.arange(sizes.sum()) - np.repeat(starts, sizes)).astype(np.int32),
        texts=texts_of(articles),
        titles={number: article.title for number, article in enumerate(articles)},
        embedder=embedder,
        source=source,
    )
