"""The final queries of a run, kept once for all of its rows: runs/<name>/queries.npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import MissingFileError, UserError
from data.io import check_file, replacing
from data.windows.novelty import max_train_cosine
from data.windows.table import WindowTable
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


def with_novelty(
    tables: Mapping[str, WindowTable], vectors: npt.NDArray[np.floating], train: npt.NDArray[np.int32], below: float
) -> dict[str, RunQueries]:
    """Compare the targets of each table with the chunks of the training windows (W, L + 1), each target once.

    A query is novel when the largest cosine of its target with one of them is below `below`; vectors (N, D) of norm 1.
    """
    targets = np.unique(np.concatenate([table.targets for table in tables.values()]))
    nearest = max_train_cosine(vectors, targets, train)
    found = {}
    for name, table in tables.items():
        cosine = nearest[np.searchsorted(targets, table.targets)]
        found[name] = RunQueries(table.rows, table.article_index, cosine, cosine < below)
    return found


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
    if path.exists():
        check_file(path, "the queries of a run")
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
