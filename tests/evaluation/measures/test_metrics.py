"""Hand-computed ranks and means."""

import math

import numpy as np
import pytest

from evaluation.measures.metrics import METRICS, hits, metric, ranks, soft_recall, summarise

NO_DUPLICATES = np.arange(10, dtype=np.int32)


def test_a_rank_counts_from_one_and_zero_means_absent():
    neighbours = np.array([[3, 1, 2], [1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(ranks(neighbours, np.array([3, 3, 3]), NO_DUPLICATES), [1, 3, 0])


def test_padding_is_never_the_target_even_when_the_target_is_the_last_row():
    neighbours = np.array([[2, -1, -1]])
    assert ranks(neighbours, np.array([9]), NO_DUPLICATES)[0] == 0


def test_padding_does_not_stand_for_row_zero():
    assert ranks(np.array([[-1, 0]]), np.array([0]), NO_DUPLICATES)[0] == 2


def test_an_exact_duplicate_of_the_target_counts_as_the_target():
    duplicate_ids = np.array([0, 1, 1, 3], dtype=np.int32)  # row 2 has the vector of row 1
    found = ranks(np.array([[3, 2, 1], [1, 2, 0]]), np.array([1, 2]), duplicate_ids)
    np.testing.assert_array_equal(found, [2, 1])


def test_ranks_are_int32():
    assert ranks(np.array([[0]]), np.array([0]), NO_DUPLICATES).dtype == np.int32


def test_means_are_those_computed_by_hand():
    final = np.array([1, 2, 6, 0], dtype=np.int32)
    pool = np.array([30, 2, 6, 0], dtype=np.int32)
    means = summarise(final, pool, np.array([0.1, 0.2, 0.3, 0.4]))
    assert means["r@1"] == 1 / 4
    assert means["r@5"] == 2 / 4
    assert means["r@10"] == 3 / 4
    assert means["contain@20"] == 2 / 4
    assert means["contain@50"] == 3 / 4
    assert means["eff@5"] == pytest.approx((2 / 4) / (3 / 4))
    assert means["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 6) / 4)
    assert means["cosine"] == pytest.approx(0.25)


def test_rank_ten_counts_for_mrr_at_ten_and_rank_eleven_does_not():
    assert summarise(np.array([10]), np.array([10]), np.array([0.0]))["mrr@10"] == pytest.approx(0.1)
    assert summarise(np.array([11]), np.array([11]), np.array([0.0]))["mrr@10"] == 0.0


def test_efficiency_is_nan_when_nothing_is_contained():
    means = summarise(np.zeros(3, np.int32), np.zeros(3, np.int32), np.zeros(3))
    assert means["contain@50"] == 0.0
    assert math.isnan(means["eff@5"])


def test_one_query_gives_zeros_and_ones():
    means = summarise(np.array([5]), np.array([5]), np.array([0.5]))
    assert (means["r@1"], means["r@5"], means["eff@5"], means["mrr@10"]) == (0.0, 1.0, 1.0, 0.2)


def test_no_query_gives_nan_and_no_flattering_zero():
    empty = np.zeros(0, np.int32)
    assert all(math.isnan(value) for value in summarise(empty, empty, np.zeros(0)).values())


def test_hits_at_k_do_not_count_absent_targets():
    np.testing.assert_array_equal(hits(np.array([0, 1, 5, 6]), 5), [False, True, True, False])


@pytest.mark.parametrize(
    "name", ["r@5", "r@50", "contain@7", "p95_ms", "eff@5", "exclude_context.r@5", "novel.r@5", "novel.eff@5"]
)
def test_legal_metric_names_are_known(name):
    assert metric(name).name == name.split(".")[-1]


@pytest.mark.parametrize("name", ["r@0", "r@51", "r5", "recall@5", "", "eff@6", "exclude_context.p95_ms", "R@5"])
def test_other_names_are_refused_with_the_legal_ones(name):
    with pytest.raises(ValueError, match=r"metric: expected one of cosine, r@1.*contain@k"):
        metric(name)


def test_only_times_are_better_when_lower():
    assert {name for name, known in METRICS.items() if not known.higher_is_better} == {
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "predict_p95_ms",
        "answer_p95_ms",
    }


def test_soft_recall_counts_a_target_at_rank_k_as_half():
    # 1 / (1 + (5 / 5)^2) = 0.5 and 1 / (1 + (10 / 5)^2) = 0.2.
    assert soft_recall(np.array([5]), 5) == 0.5
    assert soft_recall(np.array([5, 10]), 5) == pytest.approx(0.35)
