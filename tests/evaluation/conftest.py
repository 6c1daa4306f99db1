"""Small corpora whose neighbours are known."""

import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.retrieval.corpus import Corpus

sys.path.insert(0, str(Path(__file__).parent))  # for planted_run


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_unit(num_rows, dim, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((num_rows, dim)))


def corpus_from(vectors, article_index=None, duplicate_ids=None):
    num_rows = len(vectors)
    article = np.zeros(num_rows, np.int32) if article_index is None else np.asarray(article_index, np.int32)
    same = np.arange(num_rows, dtype=np.int32) if duplicate_ids is None else np.asarray(duplicate_ids, np.int32)
    return Corpus(vectors, article, np.arange(num_rows, dtype=np.int32), same)


@pytest.fixture
def corpus():
    """200 rows in 16 dimensions; windows of 3 + 1 rows come from `windows`."""
    return corpus_from(random_unit(200, 16))


@pytest.fixture
def windows():
    start = np.arange(0, 160, 4, dtype=np.int32)
    return start[:, None] + np.arange(4, dtype=np.int32)  # (40, 4)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A finished run; tests that change it copy it first."""
    import planted_run

    return planted_run.make_run(tmp_path_factory.mktemp("planted"))
