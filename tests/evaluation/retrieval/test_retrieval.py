"""One path from predictions to ranks, checked against brute force and by hand."""

import math

import numpy as np
import pytest

from evaluation.config import IndexConfig
from evaluation.index.build import build_index
from evaluation.retrieval.corpus import Corpus, QuerySet
from evaluation.retrieval.evaluate import evaluate, remove_rows


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def run(corpus, windows, predictions, **options):
    index = build_index(corpus.vectors, IndexConfig(kind="flat"))
    return evaluate(index, QuerySet("val", windows), predictions, corpus, variant="mamba_s", **options)


def brute_force_ranks(corpus, windows, predictions, k, exclude):
    """The slow twin: one query at a time, nothing vectorised."""
    answers = []
    for window, prediction in zip(windows, predictions, strict=True):
        order = [int(row) for row in np.argsort(-(corpus.vectors @ prediction), kind="stable")]
        if exclude:
            order = [row for row in order if row not in window[:-1]]
        wanted = corpus.duplicate_ids[window[-1]]
        hit = [rank for rank, row in enumerate(order[:k], 1) if corpus.duplicate_ids[row] == wanted]
        answers.append(hit[0] if hit else 0)
    return answers


def noisy_predictions(corpus, windows, noise, seed=1):
    drawn = np.random.default_rng(seed).standard_normal((len(windows), corpus.vectors.shape[1]))
    return unit(corpus.vectors[windows[:, -2]] + noise * drawn)


def test_both_protocols_agree_with_the_slow_twin(corpus, windows):
    predictions = noisy_predictions(corpus, windows, 0.5)
    result = run(corpus, windows, predictions)
    np.testing.assert_array_equal(result.ranks, brute_force_ranks(corpus, windows, predictions, 50, False))
    np.testing.assert_array_equal(
        result.ranks_exclude_context, brute_force_ranks(corpus, windows, predictions, 50, True)
    )
    assert 0 < (result.ranks > 0).mean() < 1, "the case has both found and absent targets"
    assert (result.ranks != result.ranks_exclude_context).any()


def test_predicting_the_target_itself_finds_it_first(corpus, windows):
    result = run(corpus, windows, corpus.vectors[windows[:, -1]])
    metrics = result.metrics()
    assert metrics["r@1"] == metrics["eff@5"] == 1.0
    assert metrics["cosine"] == pytest.approx(1.0)
    assert metrics["n_queries"] == 40


def test_leaving_the_context_out_moves_the_target_up_by_the_rows_before_it():
    # Rows on a quarter circle; the prediction points at row 0, so results are 0, 1, 2, 3 and row 3 is the target.
    angle = np.array([0.0, 0.1, 0.2, 0.3, 1.2])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    corpus = Corpus(vectors, np.zeros(5, np.int32), np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32))
    result = run(corpus, np.array([[0, 1, 2, 3]], np.int32), vectors[:1])
    assert (result.ranks[0], result.ranks_exclude_context[0]) == (4, 1)
    assert result.metrics()["r@1"] == 0.0
    assert result.metrics()["exclude_context.r@1"] == 1.0


def test_fifty_results_remain_when_the_context_is_taken_out():
    # Context rows are the three best; the target is number 53, so it is 50th without them and absent with them.
    angle = np.linspace(0, 1.5, 80)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    corpus = Corpus(vectors, np.zeros(80, np.int32), np.arange(80, dtype=np.int32), np.arange(80, dtype=np.int32))
    result = run(corpus, np.array([[0, 1, 2, 52]], np.int32), vectors[:1])
    assert (result.ranks[0], result.ranks_exclude_context[0]) == (0, 50)


def test_only_the_rows_of_the_context_are_taken_out_and_not_their_duplicates():
    vectors = unit(np.array([[1, 0], [1, 0], [0.9, 0.1], [0, 1]], np.float64))
    corpus = Corpus(vectors, np.zeros(4, np.int32), np.arange(4, dtype=np.int32), np.array([0, 0, 2, 3], np.int32))
    result = run(corpus, np.array([[0, 2]], np.int32), vectors[:1])
    assert result.ranks_exclude_context[0] == 2, "row 1, a duplicate of context row 0, stays before the target"


def test_a_duplicate_of_the_target_counts_and_its_share_is_reported():
    vectors = unit(np.array([[1, 0], [1, 1], [1, 1], [0, 1]], np.float64))
    corpus = Corpus(vectors, np.zeros(4, np.int32), np.arange(4, dtype=np.int32), np.array([0, 1, 1, 3], np.int32))
    result = run(corpus, np.array([[0, 2], [0, 3]], np.int32), vectors[[2, 3]])
    np.testing.assert_array_equal(result.ranks, [1, 1])
    assert result.duplicate_share == 1 / 2


def test_fewer_rows_than_fifty_are_no_trouble():
    vectors = np.eye(4, dtype=np.float32)
    corpus = Corpus(vectors, np.zeros(4, np.int32), np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32))
    result = run(corpus, np.array([[0, 1, 2]], np.int32), vectors[2:3])
    assert result.ranks[0] == 1
    assert result.neighbours.shape == (1, 50)
    assert (result.neighbours[0, 4:] == -1).all()


def test_no_queries_give_no_ranks_and_nan(corpus):
    result = run(corpus, np.zeros((0, 4), np.int32), np.zeros((0, 16), np.float32))
    assert result.metrics()["n_queries"] == 0
    assert math.isnan(result.metrics()["r@5"])


def test_rows_are_removed_and_the_rest_moves_up():
    results = np.array([[5, 3, 9, -1], [1, 2, 3, 4]])
    np.testing.assert_array_equal(remove_rows(results, np.array([[3, 7], [1, 4]])), [[5, 9, -1, -1], [2, 3, -1, -1]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p[:-1], r"mamba_s: expected predictions of shape \(40, 16\), got \(39, 16\)"),
        (
            lambda p: np.where(np.arange(16) == 3, np.nan, p),
            "mamba_s: expected finite predictions, got NaN .* 40 of 40",
        ),
        (lambda p: p * 1.01, "mamba_s: expected predictions of norm 1, got norms from 1.0100"),
        (lambda p: p * 0.0, "mamba_s: expected predictions of norm 1"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused_by_the_variants_name(corpus, windows, spoil, message):
    predictions = corpus.vectors[windows[:, -1]].copy()
    with pytest.raises(ValueError, match=message) as caught:
        run(corpus, windows, spoil(predictions))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [-1, 200])
def test_queries_of_another_payload_are_refused(corpus, windows, row):
    windows = windows.copy()
    windows[0, 0] = row
    with pytest.raises(ValueError, match="query set val: expected rows from 0 to 199"):
        run(corpus, windows, corpus.vectors[windows[:, -1]])


def test_figures_can_be_recomputed_from_the_ranks(corpus, windows):
    from evaluation.measures.metrics import summarise

    result = run(corpus, windows, noisy_predictions(corpus, windows, 0.5))
    again = summarise(result.ranks, result.ranks_pool, result.cosine)
    assert {name: result.metrics()[name] for name in again} == again
