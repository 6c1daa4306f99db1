"""Write a corpus as the original project's files have it: python -m tests.benchmarks.data_seed_files 4000 32 OUT.

    OUT/payload.npy            pickled {number: (numpy.str_, {"article_index", "chunk_index", "cpe_id"}, vector)}
    OUT/train_sequences.npz    context_sequences, target_vectors, truth_keys, three counts, provenance
    OUT/val_sequences.npz      the same; split from the training windows by window, shuffled, as that project did
    OUT/eval_sequences.npz     contexts, targets, truth_keys, provenance, compressed; from articles that training lacks
    OUT/index.faiss            IVF flat, inner product

Names, types and provenance are those that its scripts write (github.com/TrentCarter/lnsp-phase-4: in tools/,
build_payload_efficient, build_payload_aligned_training and build_disjoint_eval). Topics drift as in
tests.benchmarks.data_synthetic. Files of this form fit into `experiments/phase5_wikipedia.yaml`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from data.io import file_sha256
from data.windows.table import WindowTable, build_windows
from tests.benchmarks.data_synthetic import make_keys, vector_blocks

CONTEXT_LENGTH, MIN_ARTICLE_CHUNKS = 5, 10
EMBEDDER = "GTR-T5-base-768"
_EVAL_ARTICLES = 10  # one article in so many is held out


def make_seed_files(folder: Path, num_rows: int, dim: int, seed: int = 0) -> None:
    """Write the five files; every array is small enough to be in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    articles, chunks = make_keys(num_rows, seed)
    vectors = np.concatenate(list(vector_blocks(chunks, dim, seed)))
    write_payload_file(folder / "payload.npy", vectors, articles, chunks)
    table = build_windows(articles, chunks, CONTEXT_LENGTH, MIN_ARTICLE_CHUNKS)
    held_out = table.article_index % _EVAL_ARTICLES == 0
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~held_out))
    num_val = int(len(order) * 0.2)
    digest = file_sha256(folder / "payload.npy")[:16]
    provenance = {
        "embedder_id": EMBEDDER,
        "payload_build_id": f"payload584k_2025-10-24@sha256:{digest}",
        "norm": "l2_once",
        "metric": "ip",
    }
    for name, windows in (("train", order[num_val:]), ("val", order[:num_val]), ("eval", np.flatnonzero(held_out))):
        file = folder / f"{name}_sequences.npz"
        write_sequences(file, table.take(windows), vectors, chunks, provenance)
    write_index(folder / "index.faiss", vectors)


def write_payload_file(file: Path, vectors: np.ndarray, articles: np.ndarray, chunks: np.ndarray) -> None:
    """Write vectors (N, D) and keys (N,) as a pickled dict."""
    texts = np.array([f"chunk {chunk} of article {article}" for article, chunk in zip(articles, chunks, strict=True)])
    keys = [
        {"article_index": int(article), "chunk_index": int(chunk), "cpe_id": f"cpe-{row}"}
        for row, (article, chunk) in enumerate(zip(articles, chunks, strict=True))
    ]
    entries = dict(enumerate(zip(list(texts), keys, list(vectors), strict=True)))
    np.save(file, entries, allow_pickle=True)  # type: ignore[arg-type]


def write_index(file: Path, vectors: np.ndarray) -> None:
    """Write an IVF index of the vectors (N, D) with about four cells to the root of N."""
    import faiss

    cells = 1 << int(np.log2(4 * len(vectors) ** 0.5))
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(file))


def write_sequences(
    file: Path, table: WindowTable, vectors: np.ndarray, chunks: np.ndarray, provenance: dict[str, Any]
) -> None:
    """Write windows as a file for training, or, with a name that begins with eval, as one for evaluation."""
    keys = np.stack([table.article_index, chunks[table.targets]], axis=1).astype(np.int32)
    context, target = vectors[table.rows[:, :-1]], vectors[table.targets]
    if file.name.startswith("eval"):
        said = np.array([json.dumps({**provenance, "article_overlap": 0})], dtype=object)
        np.savez_compressed(file, contexts=context, targets=target, truth_keys=keys.astype(np.int64), provenance=said)
        return
    said = np.array([json.dumps({**provenance, "created_at": "2025-10-26T20:22:59.816929"})])
    np.savez(
        file,
        context_sequences=context,
        target_vectors=target,
        truth_keys=keys,
        context_length=CONTEXT_LENGTH,
        num_sequences=len(context),
        vector_dim=vectors.shape[1],
        provenance=said,
    )


if __name__ == "__main__":
    make_seed_files(Path(sys.argv[3]), int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{sys.argv[3]}: payload.npy, three _sequences.npz, index.faiss\n")
