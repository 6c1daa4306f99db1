from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.windows import table as tables
from data.windows.table import (
    Splits,
    WindowProvenance,
    WindowTable,
    build_windows,
    load_windows,
    sample_queries,
    save_windows,
    split_by_article,
    take_train_share,
)


def keys(*articles: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Article 0 has the chunk numbers of the first list, and so on."""
    article_index = np.repeat(np.arange(len(articles), dtype=np.int32), [len(chunks) for chunks in articles])
    return article_index, np.concatenate([np.array(chunks, np.int32) for chunks in articles])


def test_an_article_of_n_chunks_gives_n_minus_l_windows_whose_last_column_is_the_target() -> None:
    table = build_windows(*keys([0, 1, 2, 3], [0, 1, 2]), context_length=2, min_article_chunks=3)
    assert table.rows.tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6]]
    assert table.targets.tolist() == [2, 3, 6]
    assert table.article_index.tolist() == [0, 0, 1]
    assert table.rows.dtype == table.article_index.dtype == np.int32


def test_nothing_crosses_a_gap_or_an_article() -> None:
    table = build_windows(*keys([0, 1, 2, 4, 5], [6, 7, 8]), context_length=2, min_article_chunks=1)
    assert table.rows.tolist() == [[0, 1, 2], [5, 6, 7]]


def test_articles_with_too_few_chunks_give_none() -> None:
    table = build_windows(*keys([0, 1, 2, 3], [0, 1, 2]), context_length=2, min_article_chunks=4)
    assert table.article_index.tolist() == [0, 0]


def test_the_rows_of_a_payload_may_be_in_any_order() -> None:
    articles, chunks = keys([0, 1, 2, 3], [0, 1, 2])
    shuffled = np.random.default_rng(0).permutation(7)
    table = build_windows(articles[shuffled], chunks[shuffled], context_length=2, min_article_chunks=3)
    assert shuffled[table.rows].tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6]]


def test_the_number_of_windows_follows_the_closed_formula() -> None:
    sizes = np.random.default_rng(3).integers(1, 40, 300)
    table = build_windows(*keys(*[list(range(size)) for size in sizes]), context_length=5, min_article_chunks=10)
    assert len(table) == sum(size - 5 for size in sizes if size >= 10)


def test_a_corpus_shorter_than_a_window_gives_an_empty_table() -> None:
    assert len(build_windows(*keys([0, 1]), context_length=5, min_article_chunks=1)) == 0


def test_duplicate_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="chunk_index: expected one row for each truth key, got 1 duplicate keys"):
        build_windows(*keys([0, 1, 1, 2]), context_length=2, min_article_chunks=1)


def many_articles(num: int = 1000) -> WindowTable:
    return build_windows(*keys(*[list(range(4))] * num), context_length=2, min_article_chunks=3)


def test_splits_share_no_article_and_lose_no_window() -> None:
    table = many_articles()
    splits = split_by_article(table, 0.1, 0.2, seed=1)
    articles = [set(part.article_index.tolist()) for _, part in splits.items()]
    assert not articles[0] & articles[1] and not articles[0] & articles[2] and not articles[1] & articles[2]
    assert sum(len(part) for _, part in splits.items()) == len(table)
    # 3 standard deviations of a binomial with n = 1000
    assert abs(len(articles[1]) - 100) < 29
    assert abs(len(articles[2]) - 200) < 38


def test_an_article_keeps_its_split_when_others_are_added_and_the_seed_changes_it() -> None:
    few, many = (split_by_article(many_articles(num), seed=5) for num in (500, 1000))
    assert set(few.val.article_index) == {article for article in many.val.article_index if article < 500}
    other = split_by_article(many_articles(), seed=6)
    assert set(other.val.article_index) != set(many.val.article_index)


def test_an_empty_split_is_refused_unless_its_share_is_zero() -> None:
    with pytest.raises(
        ValueError, match="val: expected windows in a split of 10% of the articles, got none of 2 windows"
    ):
        split_by_article(many_articles(1), 0.1, 0.1, seed=0)
    assert len(split_by_article(many_articles(50), 0.0, 0.2, seed=0).val) == 0


def test_queries_are_a_sorted_sample_without_replacement_that_the_seed_decides() -> None:
    table = many_articles()
    sample = sample_queries(table, 100, seed=1)
    assert len(sample) == 100
    assert (np.diff(sample.targets) > 0).all()
    assert sample.rows.tolist() == sample_queries(table, 100, seed=1).rows.tolist()
    assert sample.rows.tolist() != sample_queries(table, 100, seed=2).rows.tolist()
    assert sample_queries(table, None, seed=1) is sample_queries(table, 10**9, seed=1) is table


PROVENANCE = WindowProvenance(payload_sha256="aa11", context_length=2, min_article_chunks=3, seed=1)


def test_saved_windows_fit_their_payload_only(tmp_path: Path) -> None:
    splits = split_by_article(many_articles(), seed=1)
    save_windows(tmp_path, splits, PROVENANCE)
    loaded: Splits = load_windows(tmp_path, payload_sha256="aa11")
    np.testing.assert_array_equal(loaded.val.rows, splits.val.rows)
    np.testing.assert_array_equal(loaded.test.article_index, splits.test.article_index)
    with pytest.raises(ValueError, match="expected windows of payload bb22, got windows of payload aa11"):
        load_windows(tmp_path, payload_sha256="bb22")
    with pytest.raises(FileNotFoundError, match=r"expected windows.json, got none"):
        load_windows(tmp_path / "none", payload_sha256="aa11")


def test_windows_that_could_not_be_saved_leave_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = split_by_article(many_articles(), seed=1)
    save_windows(tmp_path / "windows", splits, PROVENANCE)
    monkeypatch.setattr(tables, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_windows(tmp_path / "windows", split_by_article(many_articles(), seed=2), PROVENANCE)
    np.testing.assert_array_equal(load_windows(tmp_path / "windows", payload_sha256="aa11").test.rows, splits.test.rows)
    assert [entry.name for entry in tmp_path.iterdir()] == ["windows"]


def test_a_share_of_the_training_articles_is_part_of_a_larger_share_and_leaves_the_queries_alone():
    articles = np.repeat(np.arange(200, dtype=np.int32), 8)
    table = build_windows(articles, np.tile(np.arange(8, dtype=np.int32), 200), 5, 7)
    splits = split_by_article(table, 0.1, 0.1, seed=3)
    found = {share: take_train_share(splits, share, seed=3) for share in (0.1, 0.5, 1.0)}
    kept = {share: set(one.train.article_index.tolist()) for share, one in found.items()}
    assert kept[0.1] < kept[0.5] < kept[1.0]
    assert 0.4 < len(kept[0.5]) / len(kept[1.0]) < 0.6
    for one in found.values():
        np.testing.assert_array_equal(one.val.rows, splits.val.rows)
        np.testing.assert_array_equal(one.test.rows, splits.test.rows)
    with pytest.raises(UserError, match="train_share: expected a share that keeps an article, got 1e-09; raise it"):
        take_train_share(splits, 1e-9, seed=3)
