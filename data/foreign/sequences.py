"""Training and evaluation sequences of other programs (.npz with copied vectors), turned into row numbers.

| file      | context              | target             | keys                 | also                      |
|-----------|----------------------|--------------------|----------------------|---------------------------|
| train/val | context_sequences    | target_vectors     | truth_keys           | provenance                |
| eval      | contexts             | targets            | truth_keys           | last_meta, provenance     |
| older     | sequences            | targets            | truth_keys           |                           |

Shapes: context (M, L, D), target (M, D), keys (M, 2) integers; provenance is a JSON string in an array. A target's row
is found through its truth key; the context is the L chunks before it in the same article. The copied vectors are only
compared with the rows they stand for. This is done in blocks, so a file may be larger than memory.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.figures import paired_cosine
from data.foreign.npz import Npz
from data.payload.keys import Int64, KeyIndex
from data.payload.store import Payload
from data.preflight.cause import SAME_COSINE, Strays
from data.windows.table import WindowTable

CONTEXT_NAMES = ("context_sequences", "contexts", "sequences")
TARGET_NAMES = ("target_vectors", "targets")
STATED = {
    "embedder": "embedder",
    "embedder_id": "embedder",  # the word of the original project
    "norm": "norm",
    "metric": "metric",
    "payload_build_id": "payload_build_id",
}
"""What a file may say of its vectors: its word, and the word of a payload's provenance."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class AlignedSequences:
    """A file of sequences as row numbers, with how well its vectors agree with these rows."""

    path: Path
    table: WindowTable
    """Sequences whose target and context the payload has."""
    target_cosine: NDArray[np.float32]
    """(len(table),) cosine of the file's target and the payload row of its truth key; NaN where a number is missing."""
    context_cosine: NDArray[np.float32]
    """(len(table),) smallest cosine of a context vector and its row."""
    num_given: int
    """Sequences in the file, M."""
    num_without_target: int
    """Truth keys that the payload lacks."""
    num_without_context: int
    """Targets without L chunks before them in the payload."""
    num_damaged: int
    """Sequences of the table with NaN or infinity in the file."""
    target_strays: Strays
    """Targets that are not the row of their truth key."""
    context_strays: Strays
    provenance: dict[str, str]
    """What the file says about its vectors, by the words of `STATED`."""

    @property
    def num_strange_contexts(self) -> int:
        """Sequences whose context vectors are not the payload's own rows."""
        return int(np.count_nonzero(self.context_cosine < SAME_COSINE))


def read_sequences(path: Path, payload: Payload) -> AlignedSequences:
    """Read a .npz of sequences and find its row numbers in the payload.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is damaged, lacks an array, or its shapes do not fit each other or the payload.
    """
    with Npz(path) as npz:
        context, target, keys = npz.pick(*CONTEXT_NAMES), npz.pick(*TARGET_NAMES), _read_keys(npz)
        length = _checked_length(npz, context, target, len(keys), payload.dim)
        rows, has_target, has_context = _find_rows(keys, payload, length)
        known = has_target & has_context
        targets = _compare(npz, target, rows[:, -1:], known, payload)
        contexts = _compare(npz, context, rows[:, :-1], known, payload)
        said = npz.json("provenance") if "provenance" in npz.names else {}
    return AlignedSequences(
        path=path,
        table=WindowTable(rows[known].astype(np.int32), keys[known, 0].astype(np.int32)),
        target_cosine=targets.cosine[known],
        context_cosine=contexts.cosine[known],
        num_given=len(keys),
        num_without_target=int(np.count_nonzero(~has_target)),
        num_without_context=int(np.count_nonzero(has_target & ~has_context)),
        num_damaged=int(np.count_nonzero((targets.damaged | contexts.damaged)[known])),
        target_strays=targets.strays,
        context_strays=contexts.strays,
        provenance={ours: str(said[word]) for word, ours in STATED.items() if word in said},
    )


def _read_keys(npz: Npz) -> Int64:
    keys = npz.array(npz.pick("truth_keys"))
    if keys.ndim != 2 or keys.shape[1] != 2 or keys.dtype.kind not in "iu":
        raise UserError(
            f"{npz.path}: expected truth_keys (M, 2) of integers, got {keys.shape} of {keys.dtype}; convert it first"
        )
    if len(keys) and (keys.min() < 0 or keys.max() > np.iinfo(np.int32).max):
        raise UserError(
            f"{npz.path}: expected truth_keys from 0 to 2147483647, got {keys.min()} to {keys.max()}; number from 0"
        )
    return keys.astype(np.int64)


def _find_rows(keys: Int64, payload: Payload, length: int) -> tuple[Int64, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return rows (M, L + 1), -1 where the payload lacks the chunk, and which have their target and their context."""
    index = KeyIndex(payload.article_index, payload.chunk_index)
    rows = np.empty((len(keys), length + 1), np.int64)
    for column in range(length + 1):
        chunk = keys[:, 1] - (length - column)
        found = index.rows(keys[:, 0].astype(np.int32), np.maximum(chunk, 0).astype(np.int32))
        rows[:, column] = np.where(chunk >= 0, found, -1)
    present = rows >= 0
    return rows, present[:, -1], np.asarray(present[:, :-1].all(axis=1))


@dataclass(frozen=True, eq=False, slots=True)
class _Compared:
    cosine: NDArray[np.float32]
    """(M,) smallest cosine between a sequence's vectors in the file and their payload rows."""
    damaged: NDArray[np.bool_]
    """(M,) a vector in the file has NaN or infinity."""
    strays: Strays


def _compare(npz: Npz, name: str, rows: Int64, known: NDArray[np.bool_], payload: Payload) -> _Compared:
    """Compare the vectors of an array with these payload rows, (M, n), for the sequences that are `known`, (M,)."""
    result, damaged = np.full(len(rows), np.nan, np.float32), np.zeros(len(rows), bool)
    strays = Strays(np.empty((0, payload.dim), np.float32), np.empty(0, np.int64))
    for start, block in npz.blocks(name):
        here = np.flatnonzero(known[start : start + len(block)])
        given, own = block.reshape(len(block), -1, payload.dim)[here], rows[here + start]
        cosine = paired_cosine(given, payload.vectors[own])
        damaged[here + start] = ~np.isfinite(given).all(axis=(1, 2))
        result[here + start] = cosine.min(axis=1)  # NaN wins over any number
        strays = strays.joined(Strays.of(given.reshape(-1, payload.dim), own.reshape(-1), cosine.reshape(-1)))
    return _Compared(result, damaged, strays)


def _checked_length(npz: Npz, context: str, target: str, num: int, dim: int) -> int:
    """Check (M, L, D), (M, D) and (M, 2) against each other and the payload; return L."""
    context_shape, target_shape = npz.shape(context), npz.shape(target)
    if len(context_shape) != 3 or len(target_shape) != 2 or {context_shape[0], target_shape[0]} != {num}:
        raise UserError(
            f"{npz.path}: expected {context} (M, L, D), {target} (M, D) and truth_keys (M, 2), got {context_shape}, "
            f"{target_shape} and ({num}, 2); write the three arrays from one list of sequences"
        )
    if context_shape[2] != target_shape[1]:
        raise UserError(
            f"{npz.path}: expected one dimension for context and target, got {context_shape[2]} in {context} and "
            f"{target_shape[1]} in {target}; embed both with one embedder"
        )
    if target_shape[1] != dim:
        raise UserError(
            f"{npz.path}: expected vectors of dimension {dim} like the payload, got {target_shape[1]}; "
            "embed both with one embedder"
        )
    return context_shape[1]
