import numpy as np
import pytest


@pytest.fixture(scope="session")
def unit():
    """Normalise the rows of an array, to float32."""
    return lambda rows: (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def vectors(unit):
    return unit(np.random.default_rng(0).standard_normal((600, 16)))
