"""Write a corpus as the original project's files have it: python -m tests.benchmarks.data_seed_files 4000 32 OUT.

    OUT/payload.npy            pickled {id: (text, {"article_index", "chunk_index"}, vector)}
    OUT/train_sequences.npz    context_sequences, target_vectors, truth_keys, provenance
    OUT/val_sequences.npz      the same; split from the training windows by window, as that project did
    OUT/eval_sequences.npz     contexts, targets, truth_keys, last_meta, provenance
    OUT/index.faiss            IVF flat, inner product

Topics drift as in tests.benchmarks.data_synthetic. Files of this form fit into `experiments/phase5_wikipedia.yaml`.
"""

import json
import sys
from pathlib import Path

import numpy as np

from data.windows.table import WindowTable, build_windows
from tests.benchmarks.data_synthetic import make_keys, vector_blocks

CONTEXT_LENGTH, MIN_ARTICLE_CHUNKS = 5, 10
EMBEDDER = "sentence-transformers/gtr-t5-base"
_EVAL_ARTICLES = 10  # one article in so many is held out


def make_seed_files(folder: Path, num_rows: int, dim: int, seed: int = 0) -> None:
    """Write the five files; every array is small enough to be in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    articles, chunks = make_keys(num_rows, seed)
    vectors = np.concatenate(list(vector_blocks(chunks, dim, seed)))
    write_payload_file(folder / "payload.npy", vectors, articles, chunks)
    table = build_windows(articles, chunks, CONTEXT_LENGTH, MIN_ARTICLE_CHUNKS)
    held_out = table.article_index % _EVAL_ARTICLES == 0
    validation = ~held_out & (np.random.default_rng(seed).random(len(table)) < 0.2)
    parts = {"train": ~held_out & ~validation, "val": validation, "eval": held_out}
    for name, mask in parts.items():
        _write_sequences(folder / f"{name}_sequences.npz", table.take(mask), vectors, chunks, name=name)
    write_index(folder / "index.faiss", vectors)


def write_payload_file(file: Path, vectors: np.ndarray, articles: np.ndarray, chunks: np.ndarray) -> None:
    """Write vectors (N, D) and keys (N,) as a pickled dict."""
    entries = {
        row: (f"chunk {chunk} of article {article}", {"article_index": int(article), "chunk_index": int(chunk)}, vector)
        for row, (article, chunk, vector) in enumerate(zip(articles, chunks, vectors, strict=True))
    }
    np.save(file, np.array(entries, dtype=object), allow_pickle=True)


def write_index(file: Path, vectors: np.ndarray) -> None:
    """Write an IVF index of the vectors (N, D) with about four cells to the root of N."""
    import faiss

    cells = 1 << int(np.log2(4 * len(vectors) ** 0.5))
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(file))


def _write_sequences(file: Path, table: WindowTable, vectors: np.ndarray, chunks: np.ndarray, *, name: str) -> None:
    keys = np.stack([table.article_index, chunks[table.targets]], axis=1)
    context, target = vectors[table.rows[:, :-1]], vectors[table.targets]
    provenance = np.array(json.dumps({"embedder": EMBEDDER, "norm": "l2_once", "metric": "ip"}))
    if name == "eval":
        last = np.stack([table.article_index, chunks[table.rows[:, -2]]], axis=1)
        np.savez(file, contexts=context, targets=target, truth_keys=keys, last_meta=last, provenance=provenance)
        return
    np.savez(file, context_sequences=context, target_vectors=target, truth_keys=keys, provenance=provenance)


if __name__ == "__main__":
    make_seed_files(Path(sys.argv[3]), int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{sys.argv[3]}: payload.npy, three _sequences.npz, index.faiss\n")
