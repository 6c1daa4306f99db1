"""The kinds of index: vectors and resolved parameters in, a FAISS index out, and what a FAISS index is.

N corpus rows, D dimension. Vectors are float32 of norm 1; the metric is the inner product.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from data.errors import UserError
from evaluation.config import IndexConfig, IndexKind

Vectors = npt.NDArray[np.float32]

ROWS_PER_CELL = 39  # FAISS advises at least this many training rows a centroid
POINTS_PER_CENTROID = 64  # k-means sees at most these; FAISS would take 256, four times as long at 584,545 rows
PQ_COMPONENTS_PER_CODE = 4  # D / 4 codes of 4 bits, as in the measured IVF2048,PQ192x4fs at D = 768


def auto_nlist(num_rows: int) -> int:
    """The power of two at or below 4 sqrt(N), with at least 39 rows a cell. That is 2,048 for the 584,545 rows of the
    original protocol, and 512 for 26,500.
    """
    cells = min(4.0 * num_rows**0.5, num_rows / ROWS_PER_CELL)
    return 1 << max(int(np.log2(max(cells, 1.0))), 0)


def resolve(config: IndexConfig, num_rows: int) -> IndexConfig:
    """Replace what is left to the corpus by numbers; the kind stays."""
    nlist = min(config.nlist or auto_nlist(num_rows), num_rows)
    return replace(config, nlist=nlist, nprobe=min(config.nprobe, nlist))


def build(vectors: Vectors, config: IndexConfig, centroids: Vectors | None = None) -> Any:
    """Build an index of the resolved kind; centroids (nlist, D) spare an inverted file its k-means."""
    dim = vectors.shape[1]
    if config.kind == "ivf_pq" and dim % PQ_COMPONENTS_PER_CODE:
        raise UserError(f"index.kind: expected a dimension divisible by 4 for ivf_pq, got {dim}; choose ivf_sq8")
    recipe = RECIPES[config.kind].format(
        nlist=config.nlist, codes=dim // PQ_COMPONENTS_PER_CODE, hnsw_links=config.hnsw_links
    )
    index = faiss.index_factory(dim, recipe, faiss.METRIC_INNER_PRODUCT)
    set_breadth(index, config)
    inverted = _inverted_file(index)
    if inverted is not None:
        inverted.cp.max_points_per_centroid = POINTS_PER_CENTROID
        for clustering in (inverted.cp, *([inverted.pq.cp] if config.kind == "ivf_pq" else [])):
            clustering.seed = config.seed
            clustering.min_points_per_centroid = 1  # no advice on standard output for a small corpus in a test
        if centroids is not None:
            inverted.quantizer.add(centroids)
    index.train(vectors)
    index.add(vectors)
    return index


def centroids_of(index: Any) -> Vectors | None:
    """Return the centroids (nlist, D) of an inverted file, the same for each of its kinds; None for other kinds."""
    inverted = _inverted_file(index)
    return None if inverted is None else np.asarray(inverted.quantizer.reconstruct_n(0, inverted.nlist))


def _inverted_file(index: Any) -> Any | None:
    found = faiss.try_extract_index_ivf(index)
    return None if found is None else faiss.downcast_index(found)


RECIPES: dict[str, str] = {
    "flat": "Flat",
    "ivf_flat": "IVF{nlist},Flat",
    "ivf_sq8": "IVF{nlist},SQ8",
    "ivf_pq": "IVF{nlist},PQ{codes}x4fs,Refine(SQ8)",
    "hnsw": "HNSW{hnsw_links},Flat",
}
"""How `faiss.index_factory` spells each kind."""
# The settings that matter to a kind: what describe() reports and what identifies a saved index.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "flat": (),
    "ivf_flat": ("nlist", "nprobe"),
    "ivf_sq8": ("nlist", "nprobe"),
    "ivf_pq": ("nlist", "nprobe", "k_factor"),
    "hnsw": ("hnsw_links", "hnsw_ef"),
}


def set_breadth(index: Any, config: IndexConfig) -> None:
    """Set on a built index what decides how much of it a search reads: nprobe, k_factor, ef."""
    for layer in layers(index):
        if isinstance(layer, faiss.IndexIVF):
            layer.nprobe = config.nprobe
        if isinstance(layer, faiss.IndexRefine):
            layer.k_factor = config.k_factor
        if isinstance(layer, faiss.IndexHNSW):
            layer.hnsw.efSearch = config.hnsw_ef


def layers(index: Any) -> Iterator[Any]:
    """Yield an index and what it wraps, outermost first: ID maps, projections, refinements, the index itself."""
    while True:
        yield index
        if isinstance(index, (faiss.IndexIDMap, faiss.IndexPreTransform)):
            index = faiss.downcast_index(index.index)
        elif isinstance(index, faiss.IndexRefine):
            index = faiss.downcast_index(index.base_index)
        else:
            return


def kind_of(index: Any) -> IndexKind | None:
    """Say which of our kinds a FAISS index is; None for others."""
    *_, innermost = layers(index)
    return next((kind for kind, classes in _CLASSES if isinstance(innermost, classes)), None)


_CLASSES: tuple[tuple[IndexKind, tuple[type, ...]], ...] = (
    ("flat", (faiss.IndexFlat,)),
    ("ivf_flat", (faiss.IndexIVFFlat,)),
    ("ivf_sq8", (faiss.IndexIVFScalarQuantizer,)),
    ("ivf_pq", (faiss.IndexIVFPQ, faiss.IndexIVFPQFastScan)),
    ("hnsw", (faiss.IndexHNSWFlat, faiss.IndexHNSWSQ)),
)
