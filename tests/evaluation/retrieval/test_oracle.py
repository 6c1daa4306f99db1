"""What the neighbours of a target can say about it."""

import numpy as np

from evaluation.retrieval.corpus import Corpus, QuerySet
from evaluation.retrieval.oracle import neighbourhood_oracle

HALF = 0.5**0.5


def corpus_of(vectors, articles, chunks):
    ids = np.arange(len(vectors), dtype=np.int32)
    return Corpus(np.asarray(vectors, np.float32), np.array(articles, np.int32), np.array(chunks, np.int32), ids)


def oracle(corpus, *window):
    return neighbourhood_oracle(corpus, QuerySet("one", np.array([window], np.int32)))[0]


def test_the_oracle_is_the_target_without_what_no_neighbour_says():
    # Context e0, target with parts along e0, e1 and e2, next chunk e1: nothing says e2.
    corpus = corpus_of([[1, 0, 0], [0.6, 0.64, 0.48], [0, 1, 0]], [0, 0, 0], [0, 1, 2])
    expected = np.array([0.6, 0.64, 0.0]) / np.hypot(0.6, 0.64)
    np.testing.assert_allclose(oracle(corpus, 0, 1), expected, atol=1e-6)


def test_the_target_itself_is_no_neighbour():
    corpus = corpus_of([[1, 0], [HALF, HALF]], [0, 0], [0, 1])
    np.testing.assert_allclose(oracle(corpus, 0, 1), [1, 0], atol=1e-6)


def test_chunks_of_the_next_article_and_beyond_a_gap_say_nothing():
    vectors = [[1, 0], [HALF, HALF], [0, 1]]
    for articles, chunks in (([0, 0, 1], [0, 1, 2]), ([0, 0, 0], [0, 1, 3])):
        np.testing.assert_allclose(oracle(corpus_of(vectors, articles, chunks), 0, 1), [1, 0], atol=1e-6)


def test_copies_among_the_neighbours_do_no_harm():
    corpus = corpus_of([[1, 0], [1, 0], [HALF, HALF]], [0, 0, 0], [0, 1, 2])
    np.testing.assert_allclose(oracle(corpus, 0, 1, 2), [1, 0], atol=1e-6)


def test_the_last_chunk_stands_in_where_neighbours_say_nothing():
    corpus = corpus_of([[1, 0], [0, 1]], [0, 0], [0, 1])
    np.testing.assert_allclose(oracle(corpus, 0, 1), [1, 0], atol=1e-6)
