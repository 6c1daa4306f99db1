"""Resamples of the articles, and of the training seeds: the bootstrap for intervals, the sign flip for tests.

G articles, R resamples, F flips, V rows, M metrics. A bootstrap resample draws G articles with replacement, each with
all of its queries in every run; all rows and metrics see the same draws, so differences are paired. Sources: Davison &
Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (whole clusters are drawn, nothing within them);
Sakai 2006 (paired over systems).

A flip swaps the outcomes of two rows in the articles that a fair coin chooses: the article's difference changes its
sign. Were the rows equally good, the observed difference would be one of many such. Sources: Winkler et al. 2014,
"Permutation inference for the general linear model" (whole blocks); Phipson & Smyth 2010 (1 is added to both counts).

Where rows were trained under S seeds, every resample also moves each figure by what another set of seeds would: three
seeds are too few to be drawn from, so their spread is multiplied by a draw from Student's t with S - 1 degrees. Source:
Fisher 1935, "The fiducial argument in statistical inference" (the Behrens-Fisher distribution, a sum of two such).
With a single seed nothing is known of what yet another training would change, and nothing is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from data.seeding import derive_seed
from evaluation.statistics.articles import ArticleSums, sum_by_article
from evaluation.statistics.outcomes import Bool, Float64, Outcomes, Queries

Interval = tuple[float, float]

NUM_RESAMPLES = 2_000
NUM_FLIPS = 10_000
MOST_ENUMERATED = 14  # articles; 2^14 = 16,384 sign patterns are all tried
CONFIDENCE = 0.95
UNDEFINED = (float("nan"), float("nan"))
_DRAWS_AT_ONCE = 2_000_000  # in 64 bits: blocks of 16 MB
_ROUNDING = 1e-12  # of figures of order 1: equal ones may differ by this


def bootstrap(sums: ArticleSums, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Float64:
    """Return every metric of every row, averaged over the runs, under R resamples of the articles: (R, V, M).

    The draws depend on G, R and the seed only, so calls for several rows on the same queries are paired.
    """
    num_articles = len(sums.values)
    both = np.concatenate([sums.values, sums.counts], axis=2)  # (G, S, V + 1, P)
    flat = both.reshape(num_articles, math.prod(both.shape[1:]))
    drawn = np.empty((num_resamples, len(sums.rows), len(sums.names)))
    counts = _drawn_counts(num_articles, num_resamples, seed)  # (R, G)
    for block in _blocks(num_resamples, num_articles):
        totals = (counts[block].astype(np.float64) @ flat).reshape(-1, *both.shape[1:])
        drawn[block] = sums.figures(totals[:, :, :-1], totals[:, :, -1:]).mean(axis=1)
    if max(sums.seeds) > 1:
        drawn += np.tensordot(_drawn_seeds(sums.values.shape[1], num_resamples, seed), sums.seed_influences(), axes=1)
    return drawn


@lru_cache(maxsize=2)
def _drawn_seeds(num_seeds: int, num_resamples: int, seed: int) -> Float64:
    """By how many of its own influences each of S seeds moves a figure: (R, S), from Student's t together."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap over training seeds"))
    normal = rng.standard_normal((num_resamples, num_seeds))
    chi_square = rng.chisquare(num_seeds - 1, (num_resamples, 1))
    drawn: Float64 = normal * np.sqrt((num_seeds - 1) / chi_square)
    return drawn


@lru_cache(maxsize=2)
def _drawn_counts(num_articles: int, num_resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    """How often each of G articles is drawn in each of R resamples: (R, G). Kept, since all rows share it."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap over articles"))
    counts = np.empty((num_resamples, num_articles), dtype=np.uint16)
    for block in _blocks(num_resamples, num_articles):
        size = block.stop - block.start
        drawn = rng.integers(num_articles, size=(size, num_articles))
        drawn += np.arange(size)[:, None] * num_articles
        counts[block] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(size, num_articles)
    return counts


def _blocks(num: int, width: int) -> Iterator[slice]:
    step = min(1_000, max(1, _DRAWS_AT_ONCE // max(width, 1)))
    return (slice(start, min(start + step, num)) for start in range(0, num, step))


def interval(resamples: Float64, num_effective: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the expanded percentile interval of resampled values (R,), from n articles' worth of queries.

    The plain percentile interval matches a normal distribution with divisor n, where Student's t with divisor n - 1 is
    right: with 12 articles it is a seventh too narrow. So its tails are made smaller: Phi(-sqrt(n / (n - 1)) t).
    Source: Hesterberg 2014, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279 (expanded percentile).

    Returns:
        (NaN, NaN) with a single article, or where a resample is undefined.
    """
    if not num_effective > 1.0 or len(resamples) == 0 or np.isnan(resamples).any():
        return UNDEFINED
    tail = _expanded_tail(num_effective, confidence)
    low, high = np.quantile(resamples, [tail, 1.0 - tail])
    return (float(low), float(high))


@lru_cache
def _expanded_tail(num_effective: float, confidence: float) -> float:
    quantile = stdtrit(num_effective - 1.0, (1.0 + confidence) / 2.0)
    return float(ndtr(-np.sqrt(num_effective / (num_effective - 1.0)) * quantile))


def intervals(
    outcomes: Outcomes,
    queries: Queries,
    names: Sequence[str] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the 95 % interval of each metric of one row, of all metrics that its arrays allow if none are named."""
    names = outcomes.names if names is None else names
    sums = sum_by_article([({"row": outcomes}, queries)], names)
    drawn = bootstrap(sums, num_resamples, seed)[:, 0].T
    return {name: interval(*one) for name, *one in zip(names, drawn, sums.num_effective, strict=True)}


def sign_flip(
    sums: ArticleSums, pairs: Sequence[tuple[int, int]], num_flips: int = NUM_FLIPS, seed: int = 0
) -> Float64:
    """Return the two-sided p of every metric for each pair of rows, (pairs, M); NaN where a figure is undefined.

    Exact, over all sign patterns, where at most MOST_ENUMERATED articles differ; else from F random ones.
    """
    swaps = _Swaps(sums, pairs)
    extreme = np.zeros(swaps.observed.shape)
    if (swaps.num_differing > MOST_ENUMERATED).any():
        rng = np.random.default_rng(derive_seed(seed, "sign flip over articles"))
        for block in _blocks(num_flips, len(sums.values)):
            extreme += swaps.count_extreme(_coins(rng, block.stop - block.start, len(sums.values)))
    p = (1.0 + extreme) / (1.0 + num_flips)
    for pair, metric in np.argwhere(swaps.num_differing <= MOST_ENUMERATED):
        p[pair, metric] = _Swaps(sums.only(sums.names[metric]), [pairs[pair]]).enumerated()
    return np.where(np.isnan(swaps.observed), np.nan, p)


def _coins(rng: np.random.Generator, num_flips: int, num_articles: int) -> npt.NDArray[np.uint8]:
    """(F, G) of 0 and 1."""
    num = num_flips * num_articles
    drawn = np.frombuffer(rng.bytes((num + 7) // 8), dtype=np.uint8)
    return np.unpackbits(drawn, count=num).reshape(num_flips, num_articles)


class _Swaps:
    """The difference of each pair of rows, as it is and with the two rows' outcomes swapped in some articles."""

    def __init__(self, sums: ArticleSums, pairs: Sequence[tuple[int, int]]) -> None:
        a, b = (sums.values[:, :, list(side)] for side in zip(*pairs, strict=True))  # (G, S, pairs, P) each
        self._sums = sums
        self._difference, self._total = a - b, (a + b).sum(axis=0)
        self._counts = sums.counts.sum(axis=0)
        self.observed = self._statistic(self._difference.sum(axis=0))  # (pairs, M)
        differs = (self._difference != 0).any(axis=1)  # (G, pairs, P)
        self._differs = np.stack([differs[..., sums.places(name)].any(axis=-1) for name in sums.names], axis=-1)

    @property
    def num_differing(self) -> npt.NDArray[np.int64]:
        """In how many articles the two rows differ: (pairs, M)."""
        num: npt.NDArray[np.int64] = self._differs.sum(axis=0)
        return num

    def _statistic(self, difference: Float64) -> Float64:
        """|figure of a - figure of b|, (..., pairs, M), from the difference (..., S, pairs, P) of their totals."""
        a, b = ((self._total + sign * difference) / 2.0 for sign in (1.0, -1.0))
        figures = self._sums.figures(a, self._counts) - self._sums.figures(b, self._counts)
        statistic: Float64 = np.abs(figures.mean(axis=-3))
        return statistic

    def count_extreme(self, swapped: npt.NDArray[np.integer], differing: slice | Bool = slice(None)) -> Float64:
        """Count the patterns (F, articles) of 0 and 1, 1 for swapped, whose difference is at least the observed one.

        Returns:
            (pairs, M).
        """
        chosen = self._difference[differing].reshape(swapped.shape[1], self._total.size)  # (articles, S * pairs * P)
        flipped = chosen.sum(axis=0) - 2.0 * (swapped.astype(np.float64) @ chosen)
        statistic = self._statistic(flipped.reshape(len(swapped), *self._total.shape))
        # An undefined figure counts as extreme: no p becomes small by it.
        extreme: Float64 = (~(statistic < self.observed - _ROUNDING)).sum(axis=0)
        return extreme

    def enumerated(self) -> float:
        """Return the exact p of a single pair and metric."""
        differing = self._differs[:, 0, 0]
        swapped = np.arange(2 ** differing.sum())[:, None] >> np.arange(differing.sum()) & 1
        return float(self.count_extreme(swapped, differing)[0, 0]) / len(swapped)
