"""Bootstrap and sign flip over articles, on figures computed by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from evaluation.statistics import resampling
from evaluation.statistics.articles import sum_by_article
from evaluation.statistics.outcomes import Outcomes, Queries, mean
from evaluation.statistics.resampling import bootstrap, interval, intervals, sign_flip

R5 = ("r@5",)


@pytest.fixture
def sums(outcomes, queries):
    """From the articles and the ranks of one or more runs of one row."""
    return lambda *runs, names=R5: sum_by_article([({"row": outcomes(r)}, queries(a)) for a, r in runs], names)


def test_sums_are_those_of_each_article_in_each_run(sums):
    found = sums(([7, 3, 7], [1, 9, 2]), ([9, 3], [1, 1]))
    np.testing.assert_array_equal(found.values[..., 0, 0], [[0, 1], [2, 0], [0, 1]])  # articles 3, 7, 9
    np.testing.assert_array_equal(found.counts[..., 0, 0], [[1, 1], [2, 0], [0, 1]])


def test_a_prefix_chooses_the_queries_or_the_ranks(queries):
    ranks, without = np.array([1, 1, 0, 0], np.int32), np.array([0, 0, 1, 0], np.int32)
    row, known = Outcomes(ranks, ranks, np.zeros(4), without, without), queries([0, 0, 1, 1], [True, False, True, True])
    expected = {"r@5": 1 / 2, "novel.r@5": 1 / 3, "copied.r@5": 1.0, "exclude_context.r@5": 1 / 4}
    sums = sum_by_article([({"row": row}, known)], tuple(expected))
    np.testing.assert_allclose(sums.by_run[0, 0], list(expected.values()))
    assert [mean(name, row, known) for name in expected] == pytest.approx(list(expected.values()))
    assert set(expected) <= set(row.names)


def test_outcomes_are_taken_by_a_mask(outcomes):
    taken = outcomes([1, 2, 3]).take(np.array([True, False, True]))
    np.testing.assert_array_equal(taken.ranks, [1, 3])
    assert (len(taken), taken.ranks_exclude_context) == (2, None)


def test_an_article_is_drawn_with_all_of_its_queries(sums):
    # Article 0: one query, a hit. Article 1: three misses. Draws 00, 01 or 10, 11 give 1, 1/4, 0.
    drawn = bootstrap(sums(([0, 1, 1, 1], [1, 0, 0, 0])))[:, 0, 0]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(counts / len(drawn), [0.25, 0.5, 0.25], atol=0.04)


def test_queries_that_hit_and_miss_together_count_as_one(outcomes, queries):
    # 40 articles of 50 queries each, half of them all hits: the error is that of 40 outcomes, not of 2,000.
    row, article = outcomes(np.repeat([0, 1], 1000)), np.repeat(np.arange(40), 50)
    low, high = intervals(row, queries(article), R5)["r@5"]
    half = 2.02 * math.sqrt(0.25 / 39)  # Student's t with 39 degrees of freedom
    assert (low, high) == (pytest.approx(0.5 - half, abs=0.02), pytest.approx(0.5 + half, abs=0.02))
    narrow = intervals(row, Queries.independent(2000), R5)["r@5"]
    assert high - low > 6 * (narrow[1] - narrow[0])


def test_every_run_weighs_the_same_however_many_queries_it_has(sums):
    # 1/2 of two queries and 1/4 of four: 3/8, while 2 of all 6 queries would be 1/3.
    found = sums((range(40), [1, 0] * 20), (range(80), [1, 0, 0, 0] * 20))
    np.testing.assert_array_equal(found.by_run[:, 0, 0], [0.5, 0.25])
    assert bootstrap(found).mean() == pytest.approx(0.375, abs=0.01)


def test_a_second_run_halves_the_variance_only_with_other_articles(sums):
    ranks, articles = np.tile([0, 1], 100), np.arange(200)
    alone, same, others = (
        bootstrap(sums(*runs)).var()
        for runs in (
            [(articles, ranks)],
            [(articles, ranks), (articles, ranks)],
            [(articles, ranks), (articles + 200, ranks)],
        )
    )
    assert same == pytest.approx(alone, rel=1e-9)
    assert others == pytest.approx(alone / 2, rel=0.15)


def test_draws_are_paired_between_calls_and_blocks(sums, monkeypatch):
    ranks = np.random.default_rng(0).integers(0, 8, 50)
    whole = bootstrap(sums((range(50), ranks), names=("r@5", "mrr@10")), 40, seed=1)
    np.testing.assert_array_equal(whole[..., :1], bootstrap(sums((range(50), ranks)), 40, seed=1))
    monkeypatch.setattr(resampling, "_DRAWS_AT_ONCE", 500)
    resampling._drawn_counts.cache_clear()
    np.testing.assert_allclose(whole[..., :1], bootstrap(sums((range(50), ranks)), 40, seed=1))


def test_efficiency_is_the_ratio_within_each_resample(outcomes, queries):
    # Every contained target is in the first five, so Eff@5 is 1 in every resample although both shares vary.
    found = intervals(outcomes([1, 2, 0, 0, 3, 0, 1, 0] * 20), queries(range(160)))
    assert found["eff@5"] == found["novel.eff@5"] == (1.0, 1.0)
    assert found["r@5"][1] - found["r@5"][0] > 0.1


def test_few_articles_have_the_tails_of_students_t():
    # Two articles of one size: t = 12.7 takes the ends of all draws. With many, the tail is 2.5 %.
    draws = np.arange(1001) / 1000
    assert interval(draws, 2.0) == pytest.approx((0.0, 1.0))
    assert interval(draws, 1e6) == (pytest.approx(0.025, abs=1e-4), pytest.approx(0.975, abs=1e-4))


def test_articles_of_other_sizes_are_worth_fewer_than_equal_ones(sums):
    assert sums(([0, 0, 1, 1], [0] * 4)).num_effective == [2.0]
    assert sums(([0, 1, 1, 1], [0] * 4)).num_effective == [16 / 10]


@pytest.mark.parametrize(
    ("name", "article", "ranks"),
    [
        ("r@5", [], []),
        ("r@5", [0, 0, 0], [1, 0, 1]),  # one article: nothing to draw from
        ("copied.r@5", [0, 1, 2], [1, 0, 1]),  # all queries are novel
        ("eff@5", range(9), [0] * 9),  # nothing contained
    ],
)
def test_what_cannot_be_known_has_no_interval(name, article, ranks, outcomes, queries):
    assert all(map(math.isnan, intervals(outcomes(ranks), queries(article))[name]))


@pytest.fixture
def flipped(outcomes, queries):
    """p of R@5 for a row that hits that many queries more than the other in each article, or fewer if negative."""

    def p(*differences):
        sizes = np.abs(differences)
        article, more = np.repeat(np.arange(len(sizes)), sizes + 1), np.repeat(np.sign(differences), sizes + 1)
        differs = np.concatenate([np.arange(size + 1) < size for size in sizes])
        rows = {"a": outcomes(differs & (more > 0)), "b": outcomes(differs & (more < 0))}
        return float(sign_flip(sum_by_article([(rows, queries(article))], R5), [(0, 1)])[0, 0])

    return p


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ((1, 1, 3), 2 / 8),  # only the signs as they are, or all turned, give 5
        ((1, -1, 3), 6 / 8),  # 3: 5 twice, 3 four times, 1 twice
        ((1, 1, 3, 0, 0), 2 / 8),  # articles without a difference do not count
        ((0, 0, 0), 1.0),
        ((4,), 1.0),  # one article shows nothing
        ((1,) * 14, 2 / 2**14),
    ],
)
def test_few_articles_have_an_exact_p(flipped, differences, p):
    assert flipped(*differences) == p


def test_many_articles_are_flipped_at_random_and_p_is_never_zero(flipped):
    # 12 of 16 articles are one better, 4 are one worse: at least 12 or at most 4 of 16 fair coins.
    assert flipped(*[1] * 12, *[-1] * 4) == pytest.approx(2 * binom.sf(11, 16, 0.5), abs=0.01)
    assert flipped(*[1] * 60) == 1 / 10_001


def test_efficiency_is_flipped_as_a_whole(outcomes, queries):
    # In each of three articles a brings the contained target to the front and b does not: 1 against 0.
    rows = {"a": outcomes([1, 1, 1]), "b": outcomes([9, 9, 9])}
    assert sign_flip(sum_by_article([(rows, queries([0, 1, 2]))], ("eff@5",)), [(0, 1)])[0, 0] == 2 / 8


def test_an_undefined_figure_has_no_p(outcomes, queries):
    rows = {"a": outcomes([1, 0, 1], cosine=math.nan), "b": outcomes([0, 0, 1])}
    p = sign_flip(sum_by_article([(rows, queries([0, 1, 2], [0, 0, 0]))], ("cosine", "novel.r@5", "r@5")), [(0, 1)])
    assert np.isnan(p[0]).tolist() == [True, True, False]
