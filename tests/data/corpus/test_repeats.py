"""Chunks of several articles are found and taken out, and nothing else is."""

from pathlib import Path

import numpy as np
import pytest

from data.corpus import repeats
from data.corpus.articles import Article
from data.corpus.repeats import drop_repeats, find_repeats, near_copies, payload_without_repeats, sample_repeats
from tests.data.helpers import MakePayload, unit_rows


def with_cosine(row: np.ndarray, cosine: float) -> np.ndarray:
    """Return a unit vector that has this cosine with a unit vector."""
    other = np.roll(row, 1) - (np.roll(row, 1) @ row) * row
    return (cosine * row + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)).astype(np.float32)


@pytest.mark.parametrize(("cosine", "repeated"), [(0.951, True), (0.949, False)])
@pytest.mark.parametrize(("article", "other"), [(1, True), (0, False)])
def test_a_near_copy_counts_from_095_on_and_in_another_article_only(
    cosine: float, repeated: bool, article: int, other: bool
) -> None:
    vectors = unit_rows(3, 128)
    vectors[2] = with_cosine(vectors[0], cosine)
    expected = [repeated and other, False, repeated and other]
    assert near_copies(vectors, np.array([0, 0, article], np.int32)).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dim", [8, 100])
def test_near_copies_equal_a_slow_reference_over_several_blocks(
    dim: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_BLOCK_ROWS", 37)
    monkeypatch.setattr(repeats, "_COARSE_DIM", 20)
    rng = np.random.default_rng(1)
    vectors = unit_rows(40, dim)[rng.integers(0, 40, 300)] + rng.uniform(0, 0.5, (300, 1)) * unit_rows(300, dim, seed=2)
    vectors = (3 * vectors).astype(dtype)  # norms are no matter
    articles = np.sort(rng.integers(0, 60, 300)).astype(np.int32)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    near = (unit @ unit.T >= 0.95) & (articles[:, None] != articles)
    assert 20 < near.any(axis=1).sum() < 280
    assert near_copies(vectors, articles).tolist() == near.any(axis=1).tolist()
    rows = rng.choice(300, 50, replace=False)
    assert near_copies(vectors, articles, rows).tolist() == near.any(axis=1)[rows].tolist()


def test_rows_of_zeros_or_nan_are_like_nothing() -> None:
    vectors = unit_rows(5, 8)
    vectors[1], vectors[2], vectors[3], vectors[4] = 0, np.inf, np.nan, vectors[0]
    assert near_copies(vectors, np.arange(5, dtype=np.int32)).tolist() == [True, False, False, False, True]


def test_the_same_text_counts_whatever_its_white_space_case_and_vector() -> None:
    texts = ["See also", "see  ALSO\n", "", "", "only here", "only here"]
    articles = np.array([0, 1, 0, 1, 2, 2], np.int32)
    assert find_repeats(unit_rows(6, 8), articles, texts).tolist() == [True, True, False, False, False, False]


def test_repeats_are_taken_out_of_articles_and_short_articles_with_them() -> None:
    articles = [Article("a", ("1", "See also", "2")), Article("b", ("see also", "3")), Article("c", ("4", "5"))]
    vectors = unit_rows(7, 16)
    kept, left, dropped = drop_repeats(articles, vectors, min_chunks=2)
    assert kept == [Article("a", ("1", "2")), Article("c", ("4", "5"))]
    np.testing.assert_array_equal(left, vectors[[0, 2, 5, 6]])
    assert (dropped.chunks, dropped.repeats, dropped.articles, dropped.articles_dropped) == (7, 2, 3, 1)


def test_a_payload_without_repeats_closes_their_gaps_and_no_other(make_payload: MakePayload, tmp_path: Path) -> None:
    vectors = unit_rows(7, 16)
    vectors[4] = vectors[1]
    payload = make_payload(
        [4, 3],
        vectors=vectors,
        chunk_index=np.array([0, 1, 2, 5, 0, 1, 2], np.int32),  # article 0 has no chunks 3 and 4
        source={"kind": "file"},
    )
    cleaned = payload_without_repeats(payload, tmp_path / "out")
    assert cleaned.article_index.tolist() == [0, 0, 0, 1, 1]
    assert cleaned.chunk_index.tolist() == [0, 1, 4, 0, 1]
    np.testing.assert_array_equal(cleaned.vectors, vectors[[0, 2, 3, 5, 6]])
    assert (cleaned.texts(), cleaned.article_title(1)) == ([f"text {row}" for row in (0, 2, 3, 5, 6)], "title 1")
    assert cleaned.source_rows is not None and cleaned.source_rows.tolist() == [0, 2, 3, 5, 6]
    assert cleaned.provenance.source["kind"] == "file"
    assert cleaned.provenance.source["repeats"] == {
        "rule": "drop",
        "cosine": 0.95,
        "chunks": 7,
        "repeats": 2,
        "articles": 2,
        "articles_dropped": 0,
    }


def test_a_corpus_of_repeats_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats: expected chunks that stand in one article only, got none among 2;"):
        drop_repeats([Article("a", ("x",)), Article("b", ("x",))], unit_rows(2, 8))


def test_the_share_is_measured_on_a_sample_where_all_rows_would_take_long(
    make_payload: MakePayload, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = make_payload([2] * 600, vectors=np.tile(unit_rows(600, 16), (2, 1)))
    assert sample_repeats(payload, np.random.default_rng(0)).mean() == 1.0
    monkeypatch.setattr(repeats, "_SAMPLE_PAIRS", 1)
    assert len(sample_repeats(payload, np.random.default_rng(0))) == 512
