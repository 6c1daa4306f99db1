"""Untrained predictions."""

import numpy as np
import pytest

from evaluation.retrieval.baselines import BASELINES, context_mean, last_vector

CONTEXT = np.array([[[1, 0], [0, 1]], [[0, 1], [0, -1]]], np.float32)  # (2, 2, 2)


def test_the_last_vector_is_repeated():
    np.testing.assert_array_equal(last_vector(CONTEXT), [[0, 1], [0, -1]])


def test_the_mean_is_normalised():
    np.testing.assert_allclose(context_mean(CONTEXT)[0], [2**-0.5, 2**-0.5], rtol=1e-6)


def test_a_vanishing_mean_falls_back_to_the_last_vector():
    np.testing.assert_array_equal(context_mean(CONTEXT)[1], [0, -1])


@pytest.mark.parametrize("name", BASELINES)
def test_predictions_have_norm_one_and_are_float32(name):
    drawn = np.random.default_rng(0).standard_normal((7, 5, 8))
    context = (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float16)
    predicted = BASELINES[name](context)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(predicted, axis=1), 1.0, atol=1e-3)
