"""Tests of pairs on planted winners, ties and nothing at all."""

import json
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from evaluation.statistics.articles import sum_by_article
from evaluation.statistics.outcomes import Queries
from evaluation.statistics.resampling import bootstrap
from evaluation.statistics.significance import (
    by_student_t,
    clustered_errors,
    compare_all,
    holm,
    sample_warnings,
    standard_errors,
    tie_groups,
)

R5 = ("r@5",)
ALL = Queries.independent(2000)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04, made monotone
        ([0.04, 0.01, 0.03, 0.02], [0.06, 0.04, 0.06, 0.06]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([math.nan, 0.01, 0.04], [math.nan, 0.02, 0.04]),
        ([], []),
    ],
)
def test_holm_steps_down_as_computed_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, nan_ok=True)


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_a_planted_winner_is_found_in_either_order(planted, order):
    rows = {"good": planted(0.4, 1), "bad": planted(0.3, 2)}
    (pair,) = compare_all({name: rows[name] for name in order}, ALL)
    found = pair.metrics["novel.r@5"]
    assert (pair.better, pair.n_queries, pair.n_articles) == ("good", 2000, None)
    assert found.p_holm == pytest.approx(1e-4, rel=0.01)
    assert abs(found.difference) == pytest.approx(0.1, abs=0.04)
    assert found.ci[0] < found.difference < found.ci[1]


def test_a_planted_tie_is_called_a_tie(planted):
    (pair,) = compare_all({"a": planted(0.4, 1), "b": planted(0.4, 2)}, ALL)
    low, high = pair.metrics["r@5"].ci
    assert pair.better is None
    assert low < 0 < high


def test_novel_queries_decide_and_the_others_are_shown(outcomes, queries):
    # 20 articles of two queries: b copies the first of each, which is not novel, and a foresees the second.
    rows = {"a": outcomes([0, 1] * 20), "b": outcomes([1, 0] * 20)}
    (pair,) = compare_all(rows, queries(np.repeat(np.arange(20), 2), [False, True] * 20))
    assert (pair.better, pair.n_articles) == ("a", 20)
    assert pair.metrics["r@5"].difference == 0.0
    assert pair.better_on("r@5") is None


def test_pairing_finds_a_difference_that_separate_intervals_would_miss(outcomes, planted):
    base = planted(0.4, 1)
    better = base.ranks.copy()
    better[np.flatnonzero(base.ranks == 0)[:20]] = 1  # 1 point better, never worse
    (pair,) = compare_all({"better": outcomes(better), "base": base}, ALL, ("novel.r@5",))
    assert pair.better == "better"


def test_the_error_of_articles_of_one_query_is_that_of_the_mean(outcomes, queries):
    # Differences 1, 0, 0, 1: variance 1/3, error sqrt(1/3/4); detectable is 1.96 + 0.84 of them.
    rows = {"a": outcomes([1, 0, 0, 1]), "b": outcomes([0, 0, 0, 0])}
    for article, ranks in (
        ([0, 1, 2, 3], rows),
        (np.repeat(range(4), 2), {n: r.take([0, 0, 1, 1, 2, 2, 3, 3]) for n, r in rows.items()}),
    ):
        (pair,) = compare_all(ranks, queries(article), R5)
        assert pair.metrics["r@5"].minimum_detectable == pytest.approx(2.8016 * math.sqrt(1 / 12), rel=1e-4)


def test_students_t_over_articles_of_one_query_is_the_paired_t_test(planted):
    rows = {"a": planted(0.4, 1, 50), "b": planted(0.2, 2, 50)}
    sums = sum_by_article([(rows, Queries.independent(50))], R5)
    expected = ttest_rel(rows["a"].ranks, rows["b"].ranks)
    error, degrees = standard_errors(sums, [(0, 1)])
    ends, p = by_student_t(expected.statistic * error[0, 0], error[0, 0], degrees[0, 0])
    assert degrees[0, 0] == 49
    assert p == pytest.approx(expected.pvalue)
    assert ends == pytest.approx(tuple(expected.confidence_interval()))


def test_the_error_of_a_ratio_of_ratios_is_that_of_its_resamples(outcomes, queries):
    rng = np.random.default_rng(0)
    pools = {name: rng.integers(0, 10, 600) * (rng.random(600) < share) for name, share in (("a", 0.6), ("b", 0.3))}
    rows = {name: outcomes(pool, pool) for name, pool in pools.items()}
    sums = sum_by_article([(rows, queries(np.repeat(range(200), 3)))], ("eff@5",))
    drawn = bootstrap(sums)[..., 0]
    assert clustered_errors(sums, [(0, 1)])[0, 0] == pytest.approx((drawn[:, 0] - drawn[:, 1]).std(), rel=0.06)


def test_an_undefined_metric_has_no_winner_and_spoils_no_other(outcomes, planted):
    rows = {"a": outcomes(planted(0.5, 1).ranks, cosine=math.nan), "b": planted(0.1, 2)}
    (pair,) = compare_all(rows, ALL, ("cosine", "r@5"))
    found = pair.metrics["cosine"]
    assert np.isnan([found.difference, *found.ci, found.p, found.p_holm, found.minimum_detectable]).all()
    assert (pair.better_on("cosine"), pair.better_on("r@5")) == (None, "a")


def test_without_novel_queries_nothing_is_better(planted):
    rows = {"a": planted(0.5, 1), "b": planted(0.1, 2)}
    (pair,) = compare_all(rows, Queries(None, np.zeros(2000, bool)))
    assert pair.better is None


def test_the_named_pairs_are_the_family(outcomes, queries):
    # a hits once more in each of six articles: p = 2 / 2^6, which is evidence alone and none in a family of two.
    rows, known = {"a": outcomes([1] * 6), "b": outcomes([0] * 6), "c": outcomes([0] * 6)}, queries(range(6))
    (alone,) = compare_all(rows, known, pairs=[("a", "b")])
    first, second = compare_all(rows, known, pairs=[("a", "b"), ("b", "c")])
    assert (alone.better, first.better, second.better) == ("a", None, None)
    assert [pair.metrics["r@5"].p_holm for pair in (alone, first, second)] == [2 / 64, 4 / 64, 1.0]


def test_other_queries_are_refused(planted):
    with pytest.raises(ValueError, match=r"rows: expected outcomes of the same 10 queries, got a 10, b 11; evaluate"):
        compare_all({"a": planted(0.5, 0, 10), "b": planted(0.5, 0, 11)}, Queries.independent(10))


def test_ties_are_grouped_from_the_best_down(planted):
    shares = {"first": 0.50, "second": 0.49, "third": 0.30, "fourth": 0.30}
    rows = {name: planted(share, seed) for seed, (name, share) in enumerate(shares.items())}
    groups = tie_groups(list(rows), compare_all(rows, ALL, ("novel.r@5",)))
    assert groups == {"first": 1, "second": 1, "third": 2, "fourth": 2}


def test_a_pair_becomes_plain_json(planted, queries):
    rows = {"a": planted(0.5, 0, 50), "b": planted(0.5, 1, 50)}
    (pair,) = compare_all(rows, queries(np.arange(50) // 2), num_resamples=20)
    plain = json.loads(json.dumps(pair.to_dict()))
    assert {key: plain[key] for key in ("a", "b", "n_queries", "n_articles", "better")} == {
        "a": "a",
        "b": "b",
        "n_queries": 50,
        "n_articles": 25,
        "better": None,
    }
    figures = {"difference", "ci", "p", "p_holm", "minimum_detectable", "ci_t", "p_t"}
    assert set(plain["metrics"]["novel.r@5"]) == figures


def test_nothing_to_compare_is_no_pair():
    assert compare_all({}, Queries.independent(0)) == []


@pytest.mark.parametrize(
    ("num_queries", "num_articles", "words"),
    [(299, 30, ["299 novel queries, fewer than 300"]), (300, 29, ["29 articles with novel queries"]), (300, 30, [])],
)
def test_a_small_sample_is_warned_of(queries, num_queries, num_articles, words):
    found = sample_warnings(queries(np.arange(num_queries) % num_articles))
    assert [text[: len(word)] for text, word in zip(found, words, strict=True)] == words


def test_unknown_articles_are_warned_of():
    assert sample_warnings(ALL)[0].startswith("No articles are known: each query counts as independent")
