"""Do the intervals cover, and do verdicts hold? Simulated experiments with known truth, as large as a real one.

    python -m tests.benchmarks.statistics [NUM_EXPERIMENTS]     # 1,000 of each kind: about a minute

235 articles with about six queries each, few of some and many of others (median 4, one in a hundred above 30: as in the
docstring corpus). A query is hit where a normal variable is below the row's threshold (Gaussian copula); the variable
adds four independent parts, which make the outcomes of the same article alike:

    article + article and row + query + query and row

Their shares are solved for what was measured on real runs: correlation within an article 0.40 of single outcomes and
0.23 of the differences of two rows, and 0.60 between two rows on the same query.

coverage_single, coverage_difference: how often a 95 % interval holds the truth; rows at 15 % and at 33 %, in halves.
false_ready: one variant, in truth equal to the best of four baselines (a family of one: Holm lends no help), is called
PRODUCTION READY. power_8_points: so is one that is 8 points ahead, among three others that are not (a family of ten).
"""

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from json import dumps
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from evaluation.measures.metrics import DECISION_METRIC
from evaluation.statistics.articles import sum_by_article
from evaluation.statistics.outcomes import Outcomes, Queries
from evaluation.statistics.resampling import NUM_RESAMPLES, bootstrap, interval
from evaluation.statistics.verdict import decide

NUM_ARTICLES, MEDIAN_SIZE, SPREAD = 235, 4.7, 0.85
WITHIN_SINGLE, WITHIN_DIFFERENCE, BETWEEN_ROWS = 0.40, 0.23, 0.60
BASELINES = {"ridge": 0.159, "context_ewm": 0.148, "amn": 0.126, "context_mean": 0.124}
AHEAD = 0.08
COVERAGE, FALSE_READY, POWER = [0.93, 0.97], 0.03, 0.80
NAMES = (DECISION_METRIC,)


@lru_cache
def shares(rate: float) -> tuple[float, float, float]:
    """Variance shares of article, article and row, query that give the three correlations at a hit rate."""
    threshold = norm.ppf(rate)

    def latent(outcomes_correlate: float) -> float:
        def excess(rho: float) -> float:
            both = multivariate_normal.cdf([threshold, threshold], cov=[[1.0, rho], [rho, 1.0]])
            return float((both - rate**2) / (rate * (1.0 - rate)) - outcomes_correlate)

        return float(brentq(excess, 0.0, 0.999))

    # correlation of differences = (single - other row) / (1 - same query)
    other_row = WITHIN_SINGLE - WITHIN_DIFFERENCE * (1.0 - BETWEEN_ROWS)
    article = latent(other_row)
    return article, latent(WITHIN_SINGLE) - article, latent(BETWEEN_ROWS) - article


def experiment(rates: dict[str, float], rng: np.random.Generator) -> tuple[dict[str, Outcomes], Queries]:
    """Draw the outcomes of rows with these true hit rates."""
    sizes = np.maximum(1, np.round(rng.lognormal(np.log(MEDIAN_SIZE), SPREAD, NUM_ARTICLES))).astype(int)
    article = np.repeat(np.arange(NUM_ARTICLES, dtype=np.int32), sizes)
    of_article, of_both, of_query = shares(round(float(np.mean(list(rates.values()))), 2))
    alike = np.sqrt(of_article) * rng.standard_normal(NUM_ARTICLES)[article]
    alike += np.sqrt(of_query) * rng.standard_normal(len(article))
    rest = np.sqrt(1.0 - of_article - of_both - of_query)
    outcomes = {}
    for name, rate in rates.items():
        own = np.sqrt(of_both) * rng.standard_normal(NUM_ARTICLES)[article] + rest * rng.standard_normal(len(article))
        ranks = (alike + own < norm.ppf(rate)).astype(np.int32)
        outcomes[name] = Outcomes(ranks, ranks, np.zeros(len(ranks)))
    return outcomes, Queries(article, np.ones(len(article), dtype=bool))


def covered(num: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return how often the interval of a row, and that of a difference of two, holds the truth."""
    rng = np.random.default_rng(seed)
    single = difference = 0
    for place in range(num):
        rates = [{"a": 0.15, "b": 0.13}, {"a": 0.33, "b": 0.30}][place % 2]
        sums = sum_by_article([experiment(rates, rng)], NAMES)
        drawn, num_of = bootstrap(sums, num_resamples, seed=place)[..., 0].T, sums.num_effective[0]
        low, high = interval(drawn[0], num_of)
        single += low <= rates["a"] <= high
        low, high = interval(drawn[0] - drawn[1], num_of)
        difference += low <= rates["a"] - rates["b"] <= high
    return single / num, difference / num


def ready(num: int, variants: dict[str, float], seed: int = 0) -> float:
    """Return how often the first variant is PRODUCTION READY."""
    rng = np.random.default_rng(seed)
    plain = {"status": "FINISHED", "gates": []}
    rows = [plain | {"variant": name, "kind": "baseline"} for name in BASELINES]
    rows += [plain | {"variant": name, "kind": "variant"} for name in variants]
    found = 0
    for place in range(num):
        outcomes, queries = experiment(BASELINES | variants, rng)
        decision = decide(rows, outcomes, queries, names=NAMES, num_resamples=100, seed=place)  # the flips decide
        found += decision.verdicts[next(iter(variants))].word == "PRODUCTION READY"
    return found / num


def measure(num: int) -> Iterator[dict[str, Any]]:
    """Yield one result after the other."""
    best, detail = max(BASELINES.values()), {"experiments": num, "articles": NUM_ARTICLES}
    single, difference = covered(num)
    for name, share in (("coverage_single", single), ("coverage_difference", difference)):
        yield {"name": name, "ratio": share, "limit": COVERAGE, "better": "between", "detail": detail}
    null = ready(num, {"equal": best})
    yield {"name": "false_ready", "ratio": null, "limit": FALSE_READY, "better": "lower", "detail": detail}
    power = ready(num, {"ahead": best + AHEAD} | {f"equal_{place}": best for place in range(3)})
    yield {"name": "power_8_points", "ratio": power, "limit": POWER, "better": "higher", "detail": detail}


def main(arguments: list[str], write: Callable[[str], object] = sys.stdout.write) -> int:
    """Print the results as JSON, one a line."""
    for result in measure(int(arguments[0]) if arguments else 1_000):
        write(dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
