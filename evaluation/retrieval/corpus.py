"""What is searched and what is asked, as plain arrays; imports no FAISS.

Q queries, L context chunks, D dimension, N corpus rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.payload.duplicates import duplicate_ids
from data.payload.store import Payload

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The searched rows as plain arrays; see `corpus_of` for a payload."""

    vectors: npt.NDArray[np.floating]  # (N, D), norm 1
    article_index: Int32  # (N,)
    chunk_index: Int32  # (N,)
    duplicate_ids: Int32  # (N,) smallest row with an identical vector


def corpus_of(payload: Payload) -> Corpus:
    """The arrays of a payload, with exact duplicates found once."""
    return Corpus(payload.vectors, payload.article_index, payload.chunk_index, duplicate_ids(payload.vectors))


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Named queries: each row holds L context rows of the corpus and then the target row."""

    name: str
    windows: Int32  # (Q, L + 1)
    novel: npt.NDArray[np.bool_] | None = None  # (Q,); None where the training windows are not known

    @property
    def context(self) -> Int32:
        """(Q, L)."""
        return self.windows[:, :-1]

    @property
    def target(self) -> Int32:
        """(Q,)."""
        return self.windows[:, -1]

    def __len__(self) -> int:
        """Q."""
        return len(self.windows)


@dataclass(frozen=True, eq=False, slots=True)
class TrainingWindows:
    """What baselines are fitted to and chosen on."""

    train: Int32  # (W, L + 1)
    val: Int32  # (V, L + 1)
    val_novel: npt.NDArray[np.bool_]  # (V,)
