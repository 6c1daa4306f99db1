"""Rows whose outcomes are written down, or drawn with a known share of hits."""

import numpy as np
import pytest

from evaluation.statistics.outcomes import Outcomes, Queries


@pytest.fixture
def outcomes():
    """From ranks, and those in the pool where they differ."""

    def make(ranks, pool=None, cosine=0.5):
        ranks = np.asarray(ranks, np.int32)
        return Outcomes(ranks, ranks if pool is None else np.asarray(pool, np.int32), np.full(len(ranks), cosine))

    return make


@pytest.fixture
def planted(outcomes):
    """A row that finds the target first with the given probability, otherwise not at all."""
    return lambda share, seed, num=2000: outcomes(np.random.default_rng(seed).random(num) < share)


@pytest.fixture
def queries():
    """From the article of each query, and which are novel (all, unless told)."""

    def make(article, novel=None):
        article = np.asarray(article, np.int32)
        return Queries(article, np.ones(len(article), bool) if novel is None else np.asarray(novel, bool))

    return make
