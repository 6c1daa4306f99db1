"""The triage tells a broken index, a collapsed model and an untrained one apart."""

import numpy as np
import pytest

from data.payload.duplicates import duplicate_ids
from evaluation.config import IndexConfig
from evaluation.index.build import build_index
from evaluation.retrieval.corpus import Corpus, QuerySet
from evaluation.retrieval.triage import triage

NUM_ROWS, DIM = 2_000, 8


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).standard_normal((NUM_ROWS, DIM)))


def answers(vectors: np.ndarray, predictions: np.ndarray, searched: np.ndarray | None = None) -> dict[str, float]:
    index = build_index(vectors if searched is None else searched, IndexConfig(kind="flat"))
    windows = np.arange(600, dtype=np.int32).reshape(100, 6)
    article, chunk = np.divmod(np.arange(NUM_ROWS, dtype=np.int32), np.int32(6))
    corpus = Corpus(vectors=vectors, duplicate_ids=duplicate_ids(vectors), article_index=article, chunk_index=chunk)
    found = triage(index, QuerySet("smoke", windows), predictions, corpus)
    return {item["question"].split("(")[0]: item["value"] for item in found}


def test_the_targets_themselves_are_found_and_differ(vectors):
    found = answers(vectors, vectors[5:600:6])
    assert found["is the oracle query "] == 1.0
    assert found["is the target within the first 1,000?"] == 1.0
    assert abs(found["do predictions differ from query to query?"]) < 0.1


def test_one_prediction_for_all_queries_is_called_alike(vectors):
    found = answers(vectors, np.repeat(vectors[:1], 100, axis=0))
    assert found["do predictions differ from query to query?"] == pytest.approx(1.0, abs=1e-4)


def test_an_index_of_another_space_does_not_find_the_oracle(vectors):
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0]
    found = answers(vectors, vectors[5:600:6], searched=unit(vectors @ rotation))
    assert found["is the oracle query "] < 0.1


def test_a_prediction_that_is_not_unit_shows_its_error(vectors):
    assert answers(vectors, 3.0 * vectors[5:600:6])["are predictions of norm 1?"] == pytest.approx(2.0, abs=1e-4)
