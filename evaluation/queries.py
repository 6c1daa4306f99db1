"""The final queries of a run, kept once for all of its rows: runs/<name>/queries.npz."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import MissingFileError, UserError
from data.io import replacing
from evaluation.statistics.outcomes import Queries

QUERIES_FILE = "queries.npz"


@dataclass(frozen=True, slots=True)
class RunQueries:
    """The queries in the order of every row's arrays."""

    windows: npt.NDArray[np.int32]  # (Q, L + 1) rows of the payload: the context, then the target
    article: npt.NDArray[np.int32]  # (Q,)
    max_train_cosine: npt.NDArray[np.float32]  # (Q,) of the target with any chunk of a training window
    novel: npt.NDArray[np.bool_]  # (Q,)

    def __len__(self) -> int:
        """Q."""
        return len(self.windows)

    @property
    def known(self) -> Queries:
        """What intervals and tests need of them."""
        return Queries(self.article, self.novel)


def save_queries(run: str | Path, queries: RunQueries) -> Path:
    """Write the queries of a run, whole or not at all."""
    path = Path(run) / QUERIES_FILE
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **asdict(queries))
    return path


def load_queries(run: str | Path) -> RunQueries:
    """Read the queries of a run.

    Raises:
        MissingFileError: the run has none.
        UserError: the file is damaged, or its arrays are not as long as each other.
    """
    path = Path(run) / QUERIES_FILE
    again = "launch the run again"
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in RunQueries.__dataclass_fields__}
    except FileNotFoundError:
        raise MissingFileError(f"{path}: expected the queries of a run, got no file; {again}") from None
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: expected the queries of a run, got a damaged file ({error}); {again}") from None
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{path}: expected arrays of one length, got {lengths}; {again}")
    return RunQueries(**arrays)
