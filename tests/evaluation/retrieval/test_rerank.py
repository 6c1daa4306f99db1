"""The reranker against a slow twin, one candidate at a time, and its terms by hand."""

import math

import numpy as np
import pytest

from evaluation.config import IndexConfig, RerankConfig
from evaluation.index.build import build_index
from evaluation.measures.metrics import K_MAX
from evaluation.retrieval import rerank
from evaluation.retrieval.corpus import Corpus, QuerySet
from evaluation.retrieval.evaluate import evaluate, evaluate_prior_only
from evaluation.retrieval.rerank import Reranker, directional, mmr, unite


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    """Queries are reranked in blocks; these make three of 20."""
    monkeypatch.setattr(rerank, "QUERIES_AT_ONCE", 7)


@pytest.fixture(scope="module")
def corpus():
    """20 articles of 12 chunks in 8 dimensions; the articles' rows are not contiguous."""
    vectors = unit(np.random.default_rng(0).standard_normal((240, 8)))
    article = np.tile(np.arange(20, dtype=np.int32), 12)
    chunk = np.repeat(np.arange(12, dtype=np.int32), 20)
    return Corpus(vectors, article, chunk, np.arange(240, dtype=np.int32))


@pytest.fixture(scope="module")
def windows(corpus):
    """Chunks 3 to 6 of each article."""
    return np.array([[20 * chunk + article for chunk in range(3, 7)] for article in range(20)], np.int32)


@pytest.fixture(scope="module")
def predictions(corpus, windows):
    noise = 0.7 * np.random.default_rng(1).standard_normal((20, 8))
    return unit(corpus.vectors[windows[:, -1]] + noise)


def slow_rerank(corpus, config, query, exclude):
    """The definition, read line by line."""
    prediction, context, pool = query
    last = int(context[-1])
    members = [row for row in range(len(corpus.vectors)) if corpus.article_index[row] == corpus.article_index[last]]
    local = sorted(members, key=lambda row: -float(corpus.vectors[row] @ prediction))[: config.k_local]
    candidates = list(dict.fromkeys([*(int(row) for row in pool if row >= 0), *local]))
    if exclude:
        candidates = [row for row in candidates if row not in context]

    def score(row):
        same = corpus.article_index[row] == corpus.article_index[last]
        gap = corpus.chunk_index[row] - corpus.chunk_index[last]
        step, wanted = corpus.vectors[row] - corpus.vectors[last], prediction - corpus.vectors[last]
        norms = np.linalg.norm(step) * np.linalg.norm(wanted)
        total = float(corpus.vectors[row] @ prediction) + config.same_article * same
        if same and gap >= 1:
            total += config.sequence * math.exp(-(gap - 1) / config.sequence_decay)
        return total + config.directional * (float(step @ wanted / norms) if norms > 1e-6 else 0.0)

    scores = {row: score(row) for row in candidates}
    picked = []
    while candidates and len(picked) < K_MAX:

        def value(row):
            nearest = max((float(corpus.vectors[row] @ corpus.vectors[one]) for one in picked), default=0.0)
            return config.mmr_lambda * scores[row] - (1 - config.mmr_lambda) * nearest

        best = max(candidates, key=value)
        picked.append(best)
        candidates.remove(best)
    return picked


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("config", [RerankConfig(), RerankConfig(mmr_lambda=0.4, k_local=3, directional=0.5)])
def test_the_vectorised_reranker_agrees_with_the_slow_twin(corpus, windows, predictions, config, exclude):
    context = windows[:, :-1]
    _, pool = build_index(corpus.vectors, IndexConfig(kind="flat")).search(predictions, K_MAX)
    results = Reranker(corpus, config)(predictions, context, pool, exclude_context=exclude)
    for query in range(len(windows)):
        given = predictions[query], list(context[query]), pool[query]
        expected = slow_rerank(corpus, config, given, exclude)
        np.testing.assert_array_equal(results[query][: len(expected)], expected)


def test_with_all_weights_off_the_search_keeps_its_order(corpus, windows, predictions):
    off = RerankConfig(k_local=0, mmr_lambda=1.0, same_article=0.0, sequence=0.0, directional=0.0)
    _, pool = build_index(corpus.vectors, IndexConfig(kind="flat")).search(predictions, K_MAX)
    np.testing.assert_array_equal(
        Reranker(corpus, off)(predictions, windows[:, :-1], pool, exclude_context=False), pool
    )


def test_the_sequence_bonus_is_largest_for_the_next_chunk_and_absent_before_it(corpus):
    prior = Reranker(corpus, RerankConfig())._prior(np.array([[60, 80, 100, 40, 61]]), np.array([40], np.int32))[0]
    # row 40 is chunk 2 of article 0: gaps 1, 2, 3, 0 and another article
    expected = [0.05 + 0.12, 0.05 + 0.12 * math.exp(-1 / 3), 0.05 + 0.12 * math.exp(-2 / 3), 0.05, 0.0]
    np.testing.assert_allclose(prior, expected, rtol=1e-6)


def test_directional_is_the_cosine_of_the_two_steps_and_zero_where_there_is_none():
    candidates = np.array([[[2, 1], [1, 2], [1, 1]]], np.float32)
    found = directional(candidates, np.array([[1, 1]], np.float32), np.array([[3, 1]], np.float32))
    np.testing.assert_allclose(found, [[1.0, 0.0, 0.0]], atol=1e-6)


def test_mmr_picks_what_is_relevant_and_new():
    # Two near copies and one other vector: with diversity the second copy comes last.
    vectors = unit(np.array([[[1, 0], [1, 0.01], [0, 1]]], np.float64))
    score = np.array([[0.9, 0.89, 0.5]], np.float32)
    np.testing.assert_array_equal(mmr(score, vectors, 0.5, 3), [[0, 2, 1]])
    np.testing.assert_array_equal(mmr(score, vectors, 1.0, 3), [[0, 1, 2]])


def test_candidates_that_do_not_exist_are_never_picked():
    vectors = np.ones((1, 3, 2), np.float32) / np.float32(math.sqrt(2))
    np.testing.assert_array_equal(mmr(np.array([[0.1, -np.inf, 0.2]]), vectors, 0.7, 3), [[2, 0, -1]])


def test_a_local_candidate_that_the_search_has_found_is_not_doubled():
    np.testing.assert_array_equal(unite(np.array([[3, 1, -1]]), np.array([[1, 7]])), [[3, 1, -1, -1, 7]])


def test_shard_assist_lets_a_target_be_found_that_the_search_missed(corpus, windows, predictions):
    index = build_index(corpus.vectors, IndexConfig(kind="flat"))
    queries = QuerySet("val", windows)
    plain = evaluate(index, queries, predictions, corpus, variant="x", k=5)
    helped = evaluate(index, queries, predictions, corpus, variant="x", k=5, reranker=Reranker(corpus, RerankConfig()))
    missed = plain.ranks_pool == 0
    assert missed.any()
    assert (helped.ranks[missed] > 0).any()
    np.testing.assert_array_equal(helped.ranks_pool, plain.ranks_pool)


def test_the_prior_alone_finds_the_next_chunk_without_any_model(corpus, windows):
    result = evaluate_prior_only(QuerySet("val", windows), corpus, Reranker(corpus, RerankConfig()))
    assert result.metrics()["r@1"] == 1.0
    assert result.metrics()["exclude_context.r@1"] == 1.0
    assert math.isnan(result.metrics()["cosine"]), "it has no prediction"


def test_the_prior_without_its_sequence_term_does_not_know_which_chunk_is_next(corpus, windows):
    blind = Reranker(corpus, RerankConfig(sequence=0.0, mmr_lambda=1.0))
    assert evaluate_prior_only(QuerySet("val", windows), corpus, blind).metrics()["r@1"] < 0.5


@pytest.mark.parametrize(("field", "value"), [("k_local", -1), ("mmr_lambda", 0.0), ("sequence_decay", 0.0)])
def test_wrong_settings_are_refused_by_their_name(field, value):
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        RerankConfig(**{field: value})
