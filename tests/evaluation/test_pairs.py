"""Tests of pairs on planted winners, ties and nothing at all."""

import json
import math

import numpy as np
import pytest

from evaluation.statistics.significance import (
    Outcomes,
    compare_all,
    holm,
    mcnemar,
    percentile_bounds,
    resampled_metrics,
    tie_groups,
)


def planted(num_queries, share, seed):
    """A variant that finds the target first with the given probability, otherwise not at all."""
    ranks = (np.random.default_rng(seed).random(num_queries) < share).astype(np.int32)
    return Outcomes(ranks, ranks, np.full(num_queries, 0.5))


def test_mcnemar_counts_only_queries_on_which_two_variants_differ():
    a = np.array([1, 1, 1, 1, 1, 1, 0, 1], bool)
    b = np.array([1, 0, 0, 0, 0, 0, 1, 1], bool)
    # 5 against 1: P(at most 1 of 6) = 7/64, two-sided 14/64
    assert mcnemar(a, b) == (5, 1, pytest.approx(14 / 64))


def test_variants_that_never_differ_have_p_one():
    same = np.array([True, False, True])
    assert mcnemar(same, same) == (0, 0, 1.0)


def test_holm_steps_down_as_computed_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04, made monotone
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_never_exceeds_one_and_accepts_nothing():
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_planted_winner_is_found():
    (pair,) = compare_all({"good": planted(1000, 0.5, 1), "bad": planted(1000, 0.3, 2)})
    found = pair.metrics["r@5"]
    assert pair.better == "good"
    assert found.p_holm < 1e-6
    assert found.ci[0] > 0
    assert found.difference == pytest.approx(0.2, abs=0.05)


def test_the_better_variant_is_found_in_either_order():
    (pair,) = compare_all({"bad": planted(1000, 0.3, 2), "good": planted(1000, 0.5, 1)})
    assert pair.better == "good"


def test_a_planted_tie_is_called_a_tie():
    (pair,) = compare_all({"a": planted(1000, 0.4, 1), "b": planted(1000, 0.4, 2)})
    assert pair.better is None
    assert pair.metrics["r@5"].ci[0] < 0 < pair.metrics["r@5"].ci[1]


def test_pairing_finds_a_difference_that_separate_intervals_would_miss():
    base = planted(1000, 0.4, 1)
    better_ranks = base.ranks.copy()
    better_ranks[np.flatnonzero(base.ranks == 0)[:20]] = 1  # 2 points better, never worse
    better = Outcomes(better_ranks, better_ranks, base.cosine)
    (pair,) = compare_all({"better": better, "base": base})
    assert pair.better == "better"
    assert pair.metrics["r@5"].only_b == 0
    own = [percentile_bounds(resampled_metrics(one)["r@5"]) for one in (better, base)]
    assert own[0][0] < own[1][1], "the two separate intervals overlap"


def test_the_minimum_detectable_difference_follows_from_the_standard_error():
    (pair,) = compare_all({"a": planted(2000, 0.3, 1), "b": planted(2000, 0.3, 2)})
    standard_error = math.sqrt(2 * 0.3 * 0.7 / 2000)
    assert pair.metrics["r@5"].minimum_detectable == pytest.approx(2.80 * standard_error, rel=0.08)


def test_null_pairs_raise_about_five_false_alarms_in_a_hundred_and_not_twenty():
    alarms = intervals_off_zero = 0
    for repetition in range(1000):
        null = {name: planted(200, 0.4, 2 * repetition + place) for place, name in enumerate("ab")}
        (pair,) = compare_all(null, ("r@5",), num_resamples=200)
        low, high = pair.metrics["r@5"].ci
        alarms += pair.better is not None
        intervals_off_zero += low > 0 or high < 0
    assert alarms / 1000 <= 0.065
    assert 0.03 <= intervals_off_zero / 1000 <= 0.08


def test_a_family_of_ten_null_pairs_raises_any_alarm_in_about_five_of_a_hundred_repetitions():
    any_alarm = uncorrected = 0
    for repetition in range(200):
        null = {f"v{place}": planted(150, 0.4, 1000 + 5 * repetition + place) for place in range(5)}
        pairs = compare_all(null, ("r@5",), num_resamples=2)
        any_alarm += any(pair.better is not None for pair in pairs)
        uncorrected += any(pair.metrics["r@5"].p < 0.05 for pair in pairs)
    assert any_alarm / 200 <= 0.08
    assert uncorrected / 200 > 0.10, "without Holm's correction there would be many more"


def test_efficiency_is_compared_over_jointly_drawn_queries():
    a = Outcomes(np.array([1, 1, 0, 0] * 50, np.int32), np.array([1, 1, 0, 0] * 50, np.int32), np.zeros(200))
    b = Outcomes(np.array([1, 0, 0, 0] * 50, np.int32), np.array([1, 9, 0, 0] * 50, np.int32), np.zeros(200))
    (pair,) = compare_all({"a": a, "b": b})
    found = pair.metrics["eff@5"]
    assert found.difference == pytest.approx(1.0 - 0.5)
    assert found.ci[0] > 0.3
    assert found.p is None


def test_different_queries_are_refused():
    with pytest.raises(ValueError, match=r"pairs: expected the same queries .* got a 10, b 11"):
        compare_all({"a": planted(10, 0.5, 0), "b": planted(11, 0.5, 0)})


def test_ties_are_grouped_from_the_best_down():
    outcomes = {
        "first": planted(1000, 0.50, 1),
        "second": planted(1000, 0.49, 2),
        "third": planted(1000, 0.30, 3),
        "fourth": planted(1000, 0.30, 4),
    }
    groups = tie_groups(list(outcomes), compare_all(outcomes))
    assert groups == {"first": 1, "second": 1, "third": 2, "fourth": 2}


def test_a_pair_becomes_plain_json():
    (pair,) = compare_all({"a": planted(50, 0.5, 0), "b": planted(50, 0.5, 1)}, num_resamples=20)
    plain = json.loads(json.dumps(pair.to_dict()))
    assert plain["a"] == "a"
    assert len(plain["metrics"]["r@5"]["ci"]) == 2
