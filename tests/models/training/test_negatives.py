"""Hard negatives from the window's own article."""

import numpy as np
import pytest

from models.training.negatives import ArticleNegatives

ARTICLES = np.array([0] * 3 + [1] * 7 + [2] * 4, np.int32)  # rows 0-2, 3-9, 10-13


def test_draws_are_every_row_of_the_article_outside_the_window() -> None:
    window = np.array([[4, 5, 6]], np.int32)
    drawn = ArticleNegatives(ARTICLES, num=400).draw(window, np.random.default_rng(0))
    rows, counts = np.unique(drawn, return_counts=True)
    assert rows.tolist() == [3, 7, 8, 9]
    assert counts.min() > 70  # 100 expected of each


def test_windows_at_both_ends_of_the_payload_stay_in_their_article() -> None:
    windows = np.array([[3, 4, 5], [7, 8, 9], [10, 11, 12]], np.int32)
    drawn = ArticleNegatives(ARTICLES, num=50).draw(windows, np.random.default_rng(0))
    assert drawn.shape == (3, 50) and drawn.dtype == np.int32
    assert [set(row) for row in drawn.tolist()] == [{6, 7, 8, 9}, {3, 4, 5, 6}, {13}]


def test_an_article_as_long_as_the_window_gives_its_target() -> None:
    drawn = ArticleNegatives(ARTICLES, num=3).draw(np.array([[0, 1, 2]], np.int32), np.random.default_rng(0))
    assert drawn.tolist() == [[2, 2, 2]]


def test_an_unsorted_payload_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^article_index: expected rows sorted by article"):
        ArticleNegatives(np.array([0, 1, 0], np.int32), num=1)
