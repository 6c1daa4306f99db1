"""Boilerplate: chunks that stand, the same or nearly the same, in more than one article.

To find such a chunk is memory, not prediction. A chunk is a repeat when a chunk of another article has a cosine of at
least 0.95 with it, or the same text except for white space and case. Every copy is one, the first too.

Letters: N rows, D dimension, P dimensions of a first, coarse comparison.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.corpus.articles import Article, texts_of
from data.errors import UserError
from data.figures import paired_cosine
from data.payload.keys import Int32, Int64
from data.payload.store import Payload, Vectors, write_payload

RULE_VERSION = 1
"""Part of the name of every cached payload without repeats; raise it when the rule changes."""
REPEAT_COSINE = 0.95

_BLOCK_ROWS = 2_048
_COARSE_DIM = 64
_ROUNDING = 1e-4  # more than float32 loses
_BASIS_ROWS = 16_384
_SAMPLE_PAIRS = 3e8  # a few seconds on two cores
_SAMPLE_ROWS = 512
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """What was taken out; a payload's provenance has it under `repeats`."""

    rule: str = "drop"
    cosine: float = REPEAT_COSINE
    chunks: int
    """Chunks before."""
    repeats: int
    """Chunks that were repeats."""
    articles: int
    """Articles before."""
    articles_dropped: int
    """Articles of which too few chunks were left; these chunks are taken out, too."""


def drop_repeats(
    articles: Sequence[Article], vectors: Vectors, *, min_chunks: int = 1
) -> tuple[list[Article], Vectors, Dropped]:
    """Take the repeats out of articles, and then the articles of which fewer than `min_chunks` chunks are left.

    Args:
        articles: Articles with N chunks in all.
        vectors: (N, D) in reading order.
        min_chunks: Chunks that an article must still have.
    """
    sizes = np.array([len(article.paragraphs) for article in articles])
    numbers = np.repeat(np.arange(len(articles), dtype=np.int32), sizes)
    repeats = find_repeats(vectors, numbers, texts_of(articles))
    keep = ~repeats
    left = np.bincount(numbers, keep, minlength=len(articles))
    keep &= (left >= min_chunks)[numbers]
    kept = []
    for article, part in zip(articles, np.split(keep, np.cumsum(sizes)[:-1]), strict=True):
        paragraphs = tuple(text for text, stays in zip(article.paragraphs, part, strict=True) if stays)
        if paragraphs:
            kept.append(Article(article.title, paragraphs))
    facts = Dropped(
        chunks=len(keep),
        repeats=int(np.count_nonzero(repeats)),
        articles=len(articles),
        articles_dropped=len(articles) - len(kept),
    )
    _check_left(keep)
    return kept, vectors[keep], facts


def payload_without_repeats(payload: Payload, folder: Path) -> Payload:
    """Write a payload without its repeats; the chunks before and after one become neighbours in their article."""
    texts = payload.texts()
    keep = ~find_repeats(payload.vectors, payload.article_index, texts)
    _check_left(keep)
    articles = np.unique(payload.article_index)
    # Rows are sorted by key: how many were taken out so far, less how many before the article began.
    gone = np.concatenate([[0], np.cumsum(~keep)])
    first = np.searchsorted(payload.article_index, payload.article_index)
    shift = gone[:-1] - gone[first]
    facts = Dropped(
        chunks=payload.num_rows,
        repeats=int(gone[-1]),
        articles=len(articles),
        articles_dropped=len(articles) - len(np.unique(payload.article_index[keep])),
    )
    rows = np.flatnonzero(keep)
    return write_payload(
        folder,
        vectors=payload.vectors[rows],
        article_index=payload.article_index[rows],
        chunk_index=(payload.chunk_index - shift).astype(np.int32)[rows],
        texts=[texts[row] for row in rows],
        titles={int(article): payload.article_title(int(article)) for article in articles},
        embedder=payload.provenance.embedder,
        source={**payload.provenance.source, "repeats": asdict(facts)},
        source_rows=(rows if payload.source_rows is None else payload.source_rows[rows]).astype(np.int32),
    )


def find_repeats(vectors: Vectors, article_index: Int32, texts: Sequence[str]) -> Mask:
    """Return which chunks are repeats, (N,). Exact; 70,000 x 256 take about ten seconds on two cores."""
    return near_copies(vectors, article_index) | _same_texts(texts, article_index)


def sample_repeats(payload: Payload, rng: np.random.Generator) -> Mask:
    """Return for a sample of rows, or all where that is quick, whether a chunk of another article is a near copy."""
    num = min(payload.num_rows, max(_SAMPLE_ROWS, int(_SAMPLE_PAIRS / payload.num_rows)))
    rows = np.sort(rng.choice(payload.num_rows, num, replace=False))
    return near_copies(payload.vectors, payload.article_index, rows)


def near_copies(vectors: Vectors, article_index: Int32, rows: Int64 | None = None) -> Mask:
    """Return which rows have a cosine of at least 0.95 with a row of another article, (N,) or (len(rows),).

    Pairs are compared in P + 1 numbers each first, whose product is never below the cosine: the P directions of largest
    variance and the length of the rest (Cauchy-Schwarz). Only what passes is compared in full.
    """
    bounds = _coarse(vectors)
    found = np.zeros(len(vectors), bool)
    asked = np.arange(len(vectors)) if rows is None else rows
    for start in range(0, len(asked), _BLOCK_ROWS):
        left = asked[start : start + _BLOCK_ROWS]
        for begin in range(0 if rows is not None else start, len(vectors), _BLOCK_ROWS):
            right = np.arange(begin, min(begin + _BLOCK_ROWS, len(vectors)))
            bound = bounds[left] @ bounds[right].T
            if bound.max() < REPEAT_COSINE - _ROUNDING:
                continue
            near = bound >= REPEAT_COSINE - _ROUNDING
            first, second = left[near.any(axis=1)], right[near.any(axis=0)]
            alike = _alike(vectors, first, second) & (article_index[first][:, None] != article_index[second])
            found[first[alike.any(axis=1)]] = True
            found[second[alike.any(axis=0)]] = True
    return found[asked]


def _alike(vectors: Vectors, first: Int64, second: Int64) -> Mask:
    """Compare every row of `first` with every one of `second`: float32, and float64 where that might decide."""
    one, two = (_unit(vectors[rows]).astype(np.float32) for rows in (first, second))
    cosine = one @ two.T
    alike: Mask = cosine >= REPEAT_COSINE
    close = np.nonzero(np.abs(cosine - REPEAT_COSINE) < _ROUNDING)
    alike[close] = paired_cosine(vectors[first[close[0]]], vectors[second[close[1]]]) >= REPEAT_COSINE
    return alike


def _coarse(vectors: Vectors) -> NDArray[np.float32]:
    """Return (N, P + 1): each unit row in P directions, and the length of what they leave."""
    sample = _unit(vectors[:: max(1, len(vectors) // _BASIS_ROWS)])
    basis = np.linalg.eigh(sample.T @ sample)[1][:, -_COARSE_DIM:]
    coarse = np.zeros((len(vectors), basis.shape[1] + 1), np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = _unit(vectors[start : start + _BLOCK_ROWS])
        inside = block @ basis
        coarse[start : start + len(block), :-1] = inside
        rest = np.maximum(0.0, np.einsum("nd,nd->n", block, block) - np.einsum("np,np->n", inside, inside))
        coarse[start : start + len(block), -1] = np.sqrt(rest)
    return coarse


def _unit(rows: Vectors) -> NDArray[np.float64]:
    """Return rows of norm 1 as float64; a row of zeros, NaN or infinity becomes zero, which is like nothing."""
    wide = np.asarray(rows, np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 0)
    return np.where(usable, wide / np.where(usable, norms, 1.0), 0.0)


def _check_left(keep: Mask) -> None:
    if not keep.any():
        raise UserError(
            f"repeats: expected chunks that stand in one article only, got none among {len(keep)}; "
            "keep them (repeats: keep, --repeats keep), or use another corpus"
        )


def _same_texts(texts: Sequence[str], article_index: Int32) -> Mask:
    """Return which texts stand in more than one article, but for white space and case; empty ones never do."""
    groups: dict[str, int] = {}
    numbers = np.array([groups.setdefault(" ".join(text.split()).casefold(), len(groups)) for text in texts], np.int64)
    first = np.full(len(groups), np.iinfo(np.int64).max)
    last = np.full(len(groups), -1)
    np.minimum.at(first, numbers, article_index)
    np.maximum.at(last, numbers, article_index)
    several = first != last
    if "" in groups:
        several[groups[""]] = False
    found: Mask = several[numbers]
    return found
