"""Exact duplicates: rows whose vectors are equal byte for byte count as one target in evaluation and in the loss."""

import numpy as np

from data.payload.keys import Int32
from data.payload.store import Vectors
from data.seeding import derive_seed

_BLOCK_ROWS = 16_384
_CACHED_ROWS = 1_024


def duplicate_ids(vectors: Vectors) -> Int32:
    """Return for each row the smallest row number with an identical vector, (N,) int32.

    Rows are grouped by a 64-bit fingerprint and compared byte for byte only inside a group, in blocks. No copy of the
    vectors is made: a memory map may be larger than memory.
    """
    fingerprints = _fingerprints(vectors)
    order = np.argsort(fingerprints, kind="stable")
    ordered = fingerprints[order]
    new_group = np.ones(len(ordered), bool)
    new_group[1:] = ordered[1:] != ordered[:-1]
    first = order[np.flatnonzero(new_group)][np.cumsum(new_group) - 1]  # stable sort: the smallest row of each group
    result = np.empty(len(order), np.int32)
    result[order] = first
    _split_collisions(vectors, result)
    return result


def share_with_duplicates(target: Int32, duplicate_ids: Int32) -> float:
    """Share of targets whose vector occurs more than once in the corpus; NaN without queries."""
    if len(target) == 0:
        return float("nan")
    copies = np.bincount(duplicate_ids, minlength=len(duplicate_ids))  # (N,)
    return float((copies[duplicate_ids[target]] > 1).mean())


def _fingerprints(vectors: Vectors) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Hash each row to 64 bits: a dot product of its bit patterns with random odd numbers, modulo 2**64.

    Eight bytes of a row are one factor where possible: then 584,545 x 768 float16 take 0.11 s; number by number they
    took 1.2 s.
    """
    row_bytes = vectors.shape[1] * vectors.itemsize
    word = np.uint64 if row_bytes % 8 == 0 else _bits(vectors)
    num_words = row_bytes // np.dtype(word).itemsize
    rng = np.random.default_rng(derive_seed("fingerprint", num_words))
    factors = rng.integers(0, 2**63, num_words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    result = np.empty(len(vectors), np.uint64)
    for start in range(0, len(vectors), _CACHED_ROWS):
        block = np.ascontiguousarray(vectors[start : start + _CACHED_ROWS])
        result[start : start + len(block)] = block.view(word).astype(np.uint64, copy=False) @ factors
    return result


def _bits(vectors: Vectors) -> type[np.uint32] | type[np.uint16]:
    """Return the unsigned integer that holds one number of the vectors."""
    return np.uint32 if vectors.dtype == np.float32 else np.uint16


def _split_collisions(vectors: Vectors, ids: Int32) -> None:
    """Correct, in place, the ids of rows that share a fingerprint but not their bytes; this is very rare."""
    bits = _bits(vectors)
    repeated = np.flatnonzero(ids != np.arange(len(ids), dtype=np.int32))
    colliding: set[int] = set()
    for start in range(0, len(repeated), _BLOCK_ROWS):
        rows = repeated[start : start + _BLOCK_ROWS]
        equal = (vectors[rows].view(bits) == vectors[ids[rows]].view(bits)).all(axis=1)
        colliding.update(ids[rows[~equal]].tolist())
    for first in colliding:
        seen: dict[bytes, int] = {}
        for row in np.flatnonzero(ids == first):
            ids[row] = seen.setdefault(vectors[row].tobytes(), int(row))
