"""The benchmarks run and compute what they say, at a size where the figures mean nothing."""

import numpy as np
import pytest

from tests.benchmarks import data_scale
from tests.benchmarks.data_scale import build_peak_over_payload
from tests.benchmarks.data_synthetic import make_keys, vector_blocks


def test_the_synthetic_corpus_has_whole_articles_of_the_right_mean_length_and_drifting_unit_rows() -> None:
    article_index, chunk_index = make_keys(100_000)
    assert abs(100_000 / (article_index[-1] + 1) - 69) < 5
    assert ((np.diff(chunk_index) == 1) == (np.diff(article_index) == 0)).all()
    rows = np.concatenate(list(vector_blocks(chunk_index[:40_000], 32)))
    assert rows.shape == (40_000, 32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    inside = chunk_index[1:40_000] > 0
    cosine = np.einsum("nd,nd->n", rows[1:], rows[:-1])
    assert 0.65 < cosine[inside].mean() < 0.75
    assert abs(cosine[~inside].mean()) < 0.05


def test_the_build_peak_is_that_of_a_process_of_its_own() -> None:
    ballast = np.ones(50_000_000)  # 400 MB here must not count there
    found = build_peak_over_payload(20_000, 32, preflight=False)
    assert ballast.nbytes > found["detail"]["peak_bytes"] > 10_000_000


def test_the_build_peak_is_told_in_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1,000 x 32 float32 are 128,000 bytes.
    monkeypatch.setattr(data_scale, "measure_build", lambda payload, *, preflight: {"peak_bytes": 160_000})
    found = build_peak_over_payload(1_000, 32, preflight=False)
    assert (found["ratio"], found["limit"], found["better"]) == (1.25, 1.3, "lower")
