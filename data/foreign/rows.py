"""Rows of a payload on their way from a foreign file to the project's own folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.payload.keys import Int32
from data.payload.store import UNKNOWN_EMBEDDER, Vectors


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Rows:
    """What a file holds: vectors (N, D), keys (N,) each, texts, and who made the vectors if the file says so."""

    vectors: Vectors
    article_index: Int32
    chunk_index: Int32
    texts: list[str] | None = None
    titles: Mapping[int, str] = field(default_factory=dict)
    embedder: str = UNKNOWN_EMBEDDER
    source_rows: Int32 | None = None
    """(N,) number of each row in the original file, if the rows were sorted since then."""


def as_float(vectors: NDArray[Any], where: Path) -> Vectors:
    """Check that an array is (N, D) of floats; float64 becomes float32, nothing else is copied."""
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise UserError(f"{where}: expected floats (N, D), got {vectors.shape} of {vectors.dtype}; convert it first")
    return vectors if vectors.dtype in (np.float32, np.float16) else vectors.astype(np.float32)


def as_int32(values: NDArray[Any], where: Path) -> Int32:
    """Check that numbers fit int32 and are not negative, (N,)."""
    if len(values) and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() > np.iinfo(np.int32).max):
        raise UserError(
            f"{where}: expected article_index and chunk_index from 0 to 2147483647, got {values.dtype} "
            f"from {values.min()} to {values.max()}; number articles and chunks from 0"
        )
    return values.astype(np.int32)
