"""A FAISS index that another program built: read, compared with the payload, then searched instead of a built one.

    python -m evaluation.index_file INDEX.faiss --payload FOLDER      the checks as a table; exit code 2 when one fails

N corpus rows, D dimension, Q sampled rows, K = K_MAX neighbours.
"""

import argparse
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from data.errors import MissingFileError, UserError, one_line
from data.payload.store import open_payload
from data.preflight.check import Check, judge, table_of
from data.preflight.run import blocking, stamp_waived
from evaluation.config import IndexConfig
from evaluation.index.kinds import RECIPES, kind_of, layers, set_breadth
from evaluation.index.search import SearchIndex
from evaluation.measures.metrics import K_MAX

NUM_SAMPLED = 256
SAME_SCORE = 0.01
"""A row's score under itself is 1: up to 1e-6 from float16, up to 0.002 (measured, 64-D) from 8 bits a component."""
_BUILD = "leave index.file out and an index is built"
_ANOTHER = f"it was built from another payload; name the one built from these vectors, or {_BUILD}"

Vectors = npt.NDArray[np.floating]


def open_index_file(
    vectors: Vectors,
    config: IndexConfig,
    waive: Collection[str] = (),
    source_rows: npt.NDArray[np.int32] | None = None,
) -> tuple[SearchIndex | None, list[Check]]:
    """Open `config.file` and compare it with the payload's vectors (N, D).

    An index may number its rows as the payload does, or as the file did that the payload came from: `source_rows` (N,).

    Returns:
        The index, memory-mapped, with the breadth of `config` and the kind and cells of the file; None where it cannot
        be searched for these vectors at all, whatever is waived. And the checks, stamped.
    """
    assert config.file is not None
    started = time.perf_counter()
    read = _read(Path(config.file))
    kind = kind_of(read) if read is not None else None
    checks = [_check_readable(config.file, read, kind)]
    index = None
    if read is not None and kind is not None:
        checks += _check_shape(read, vectors.shape)
        if (read.ntotal, read.d) == vectors.shape:
            index = _with_config_of_file(read, replace(config, kind=kind), started)
            index, found = _numbered_alike(index, vectors, source_rows)
            checks.append(found)
    return index, stamp_waived(checks, waive)


def _numbered_alike(
    index: SearchIndex, vectors: Vectors, source_rows: npt.NDArray[np.int32] | None
) -> tuple[SearchIndex, Check]:
    """Return the index with its rows numbered as the payload's, if one of the two numberings fits, and the check."""
    found = check_vectors(index, vectors)
    if found.passed or source_rows is None:
        return index, found
    notes = {**index.notes, "numbered_as": "source file"}
    other = SearchIndex(index.faiss_index, index.config, index.build_s, notes, source_rows)
    again = check_vectors(other, vectors)
    if not again.passed:
        return index, found
    return other, replace(again, detail=f"{again.detail}, which is that in the file the payload came from")


def check_vectors(index: SearchIndex, vectors: Vectors) -> Check:
    """Search a sample of the payload's rows: each, or an exact copy of it, must be found under its own row number.

    The rows are searched and not reconstructed, since that works for every kind. An ID map does not reconstruct, and
    FAISS 1.15 crashes when it reconstructs fast-scan product codes. Where the index keeps 8 bits a component or more,
    the score must be that of the row with itself. Coarser codes are judged by the row number alone. A neighbour graph
    may miss a row or two, hence the limit.
    """
    rng = np.random.default_rng(index.config.seed)
    rows = np.sort(rng.choice(len(vectors), min(NUM_SAMPLED, len(vectors)), replace=False))  # (Q,)
    queries = np.asarray(vectors[rows], np.float32)  # (Q, D)
    scores, found = index.search(queries, min(K_MAX, len(vectors)))  # (Q, K)
    if index.faiss_index.metric_type == faiss.METRIC_L2:
        scores = 1.0 - scores / 2.0  # of unit vectors
    with np.errstate(invalid="ignore"):
        alike = np.abs(scores - 1.0) <= SAME_SCORE
    inside = (found >= 0) & (found < len(vectors))
    copies = (np.asarray(vectors[np.where(inside, found, 0)], np.float32) == queries[:, None]).all(axis=2)
    own = (inside & copies & (alike | _is_coarse(index.faiss_index))).any(axis=1)
    elsewhere = int(np.count_nonzero(~own & alike.any(axis=1)))
    detail = f"share of {len(rows)} payload rows found under their own number"
    return judge(
        "index_vectors",
        float(own.mean()),
        ">=",
        0.99,
        "number the index's rows by article_index and chunk_index, or as the file the payload was built from"
        if elsewhere > len(rows) / 2
        else _ANOTHER,
        detail=f"{detail}; {elsewhere} are there under another one" if elsewhere else detail,
    )


def _read(file: Path) -> Any | None:
    """Map an index; None for what FAISS cannot read. It notices a file that is shorter than its lists."""
    if not file.is_file():
        return None
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError:
        return None


def _check_readable(file: str, read: Any | None, kind: str | None) -> Check:
    what = (
        "is no whole FAISS index" if read is None else f"holds an {type(read).__name__}, none of {', '.join(RECIPES)}"
    )
    return judge(
        "index_file",
        float(kind is not None),
        "==",
        1,
        f"copy the file again, or {_BUILD}",
        detail=f"{file} {what}" if kind is None else f"{file} holds an {type(read).__name__}",
    )


def _check_shape(read: Any, shape: tuple[int, ...]) -> list[Check]:
    """Compare dimension, metric and number of rows, which the file itself says."""
    num_rows, dim = shape
    metric = {faiss.METRIC_INNER_PRODUCT: "inner product", faiss.METRIC_L2: "L2"}.get(read.metric_type, "another")
    return [
        judge("index_dimension", read.d, "==", dim, _ANOTHER, detail="dimension of the index, limit the payload's"),
        judge(
            "index_metric",
            read.metric_type == faiss.METRIC_INNER_PRODUCT,
            "==",
            1,
            f"build it with faiss.METRIC_INNER_PRODUCT, or {_BUILD}",
            detail=f"its metric is {metric}, the payload's inner product",
        ),
        judge("index_rows", read.ntotal, "==", num_rows, _ANOTHER, detail="rows of the index, limit the payload's"),
    ]


def _with_config_of_file(read: Any, config: IndexConfig, started: float) -> SearchIndex:
    """Take cells and links from the file and the breadth of a search from the configuration."""
    for layer in layers(read):
        if isinstance(layer, faiss.IndexIVF):
            config = replace(config, nlist=int(layer.nlist), nprobe=min(config.nprobe, int(layer.nlist)))
        if isinstance(layer, faiss.IndexHNSW):
            hnsw: Any = layer.hnsw
            config = replace(config, hnsw_links=int(hnsw.nb_neighbors(1)))
    set_breadth(read, config)
    notes = {"chosen_by": "file", "file": config.file}
    return SearchIndex(read, config, time.perf_counter() - started, notes)


def _is_coarse(read: Any) -> bool:
    """Say whether scores are far from exact: fewer than 8 bits a component, or a projection."""
    if any(isinstance(layer, faiss.IndexPreTransform) for layer in layers(read)):
        return True
    try:
        return bool(read.sa_code_size() < read.d)
    except RuntimeError:
        return False  # a graph does not say; those of `kind_of` keep whole vectors or 8 bits a component


def check_file(config: IndexConfig, payload: str | Path) -> list[Check]:
    """Compare `config.file` with the payload in that folder; failed checks are returned."""
    opened = open_payload(payload)
    return open_index_file(opened.vectors, config, source_rows=opened.source_rows)[1]


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 when a check fails or a file is missing."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.index_file", description=__doc__)
    parser.add_argument("file", help="FAISS index")
    parser.add_argument("--payload", required=True, help="folder of the payload")
    parser.add_argument("--nprobe", type=int, default=IndexConfig().nprobe, help="cells read per query")
    args = parser.parse_args(argv)
    try:
        if not Path(args.file).is_file():
            raise MissingFileError(f"{args.file}: expected a FAISS index, got no file; check the path")
        checks = check_file(IndexConfig(file=args.file, nprobe=args.nprobe), args.payload)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    sys.stdout.write(f"{table_of(checks)}\n")
    return 2 if blocking(checks) else 0
