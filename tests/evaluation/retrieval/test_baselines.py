"""Untrained predictions."""

import numpy as np

from evaluation.retrieval.baselines import context_mean, last_vector

CONTEXT = np.array([[[1, 0], [0, 1]], [[0, 1], [0, -1]]], np.float32)  # (2, 2, 2)


def test_the_last_vector_is_repeated():
    np.testing.assert_array_equal(last_vector(CONTEXT), [[0, 1], [0, -1]])


def test_the_mean_is_normalised():
    np.testing.assert_allclose(context_mean(CONTEXT)[0], [2**-0.5, 2**-0.5], rtol=1e-6)


def test_a_vanishing_mean_falls_back_to_the_last_vector():
    np.testing.assert_array_equal(context_mean(CONTEXT)[1], [0, -1])
