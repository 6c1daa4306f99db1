"""Build the index that a configuration asks for."""

import numpy as np
import numpy.typing as npt

from data.errors import UserError
from evaluation.config import IndexConfig
from evaluation.index.auto import choose
from evaluation.index.fidelity import sampled_fidelity
from evaluation.index.search import SearchIndex, build_kind


def build_index(vectors: npt.NDArray[np.floating], config: IndexConfig) -> SearchIndex:
    """Build the configured index over (N, D) vectors and measure its fidelity; `auto` chooses the kind here."""
    if vectors.ndim != 2 or len(vectors) == 0:
        raise UserError(f"index: expected vectors (N, D) with N >= 1, got {vectors.shape}; check the payload")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if config.kind == "auto":
        return choose(vectors, config)
    index = build_kind(vectors, config)
    found = {"fidelity": 1.0, "fidelity_disturbed": 1.0} if config.kind == "flat" else sampled_fidelity(index, vectors)
    index.notes |= {name: round(value, 4) for name, value in found.items()}
    return index
