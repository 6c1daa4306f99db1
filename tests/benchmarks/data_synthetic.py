"""Make a payload of any size whose topics drift like text: python -m tests.benchmarks.data_synthetic 584545 768 OUT.

Articles have a geometric number of chunks around 69 (584,545 chunks of 8,447 articles). A chunk is 0.7 of the chunk
before it plus 0.7 of noise, normalised, so neighbours have a cosine near 0.7 and articles have nothing in common.
Vectors are made and written in blocks of articles: memory stays at a block, whatever the size.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.payload.store import Payload, write_payload

MEAN_CHUNKS = 69
_BLOCK_ROWS = 32_768


def make_keys(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return article_index and chunk_index of `num_rows` chunks, (N,) int32 each."""
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(1 / MEAN_CHUNKS, size=max(1, 2 * num_rows // MEAN_CHUNKS + 64))
    ends = np.cumsum(sizes)
    article_index = np.searchsorted(ends, np.arange(num_rows), side="right").astype(np.int32)
    starts = ends - sizes
    return article_index, (np.arange(num_rows) - starts[article_index]).astype(np.int32)


def vector_blocks(chunk_index: np.ndarray, dim: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield unit rows (n, dim) float32 for consecutive runs of whole articles, about 32,768 rows each."""
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(chunk_index == 0)
    num_rows, first = len(chunk_index), 0
    while first < num_rows:
        later = starts[starts >= first + _BLOCK_ROWS]
        stop = int(later[0]) if len(later) else num_rows
        yield _drift(chunk_index[first:stop], dim, rng)
        first = stop


def make_payload(folder: Path, num_rows: int, dim: int, *, dtype: str = "float32", seed: int = 0) -> Payload:
    """Write a synthetic payload; takes about 15 s for 584,545 x 768."""
    article_index, chunk_index = make_keys(num_rows, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        vectors = np.lib.format.open_memmap(Path(scratch) / "v.npy", mode="w+", dtype=dtype, shape=(num_rows, dim))
        row = 0
        for block in vector_blocks(chunk_index, dim, seed):
            vectors[row : row + len(block)] = block
            row += len(block)
        return write_payload(
            folder,
            vectors=vectors,
            article_index=article_index,
            chunk_index=chunk_index,
            embedder="synthetic drift 0.7",
            source={"kind": "synthetic", "seed": seed},
        )


def _drift(chunk_index: np.ndarray, dim: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((len(chunk_index), dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for position in range(1, int(chunk_index.max(initial=0)) + 1):  # all articles of the block take this step at once
        here = np.flatnonzero(chunk_index == position)
        step = 0.7 * rows[here - 1] + 0.7 * rows[here]
        rows[here] = step / np.linalg.norm(step, axis=1, keepdims=True)
    return rows


if __name__ == "__main__":
    made = make_payload(Path(sys.argv[3]), int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{made.path}: {made.num_rows:,} x {made.dim}, {made.num_articles:,} articles\n")
