"""One builder per kind of index: vectors and resolved parameters in, a FAISS index out.

N corpus rows, D dimension. Vectors are float32 of norm 1; the metric is the inner product.
"""

from collections.abc import Callable, Iterator
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
    """The power of two at or below 4 sqrt(N), with at least 39 rows a cell: 2,048 for the 584,545 rows of the
    original protocol, 512 for 26,500.
    """
    cells = min(4.0 * num_rows**0.5, num_rows / ROWS_PER_CELL)
    return 1 << max(int(np.log2(max(cells, 1.0))), 0)


def resolve(config: IndexConfig, num_rows: int) -> IndexConfig:
    """Replace what is left to the corpus by numbers; the kind stays."""
    nlist = min(config.nlist or auto_nlist(num_rows), num_rows)
    return replace(config, nlist=nlist, nprobe=min(config.nprobe, nlist))


def _nlist(config: IndexConfig) -> int:
    assert config.nlist is not None, "resolve() sets it"
    return config.nlist


def train_cells(vectors: Vectors, config: IndexConfig) -> Vectors:
    """Centroids (nlist, D) of spherical k-means, the same for every inverted-file kind of a corpus."""
    num_cells = _nlist(config)
    clustering = faiss.Clustering(vectors.shape[1], num_cells)
    clustering.niter = 10  # FAISS's own number for inverted files
    clustering.seed = config.seed
    clustering.spherical = True
    clustering.min_points_per_centroid = 1  # no advice on standard output for a small corpus in a test
    clustering.max_points_per_centroid = POINTS_PER_CENTROID
    clustering.train(vectors, faiss.IndexFlatIP(vectors.shape[1]))
    centroids: Vectors = faiss.vector_to_array(clustering.centroids).reshape(num_cells, -1)
    return centroids


def _cells(vectors: Vectors, config: IndexConfig, centroids: Vectors | None) -> Any:
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    quantizer.add(train_cells(vectors, config) if centroids is None else centroids)
    return quantizer


def _flat(vectors: Vectors, config: IndexConfig, centroids: Vectors | None) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _ivf_flat(vectors: Vectors, config: IndexConfig, centroids: Vectors | None) -> Any:
    cells = _cells(vectors, config, centroids)
    index = faiss.IndexIVFFlat(cells, vectors.shape[1], _nlist(config), faiss.METRIC_INNER_PRODUCT)
    return _filled(index, vectors, config)


def _ivf_sq8(vectors: Vectors, config: IndexConfig, centroids: Vectors | None) -> Any:
    cells = _cells(vectors, config, centroids)
    bits8 = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(cells, vectors.shape[1], _nlist(config), bits8, faiss.METRIC_INNER_PRODUCT)
    return _filled(index, vectors, config)


def _ivf_pq(vectors: Vectors, config: IndexConfig, centroids: Vectors | None) -> Any:
    dim = vectors.shape[1]
    if dim % PQ_COMPONENTS_PER_CODE:
        raise UserError(f"index.kind: expected a dimension divisible by 4 for ivf_pq, got {dim}; choose ivf_sq8")
    cells = _cells(vectors, config, centroids)
    codes = faiss.IndexIVFPQFastScan(
        cells, dim, _nlist(config), dim // PQ_COMPONENTS_PER_CODE, 4, faiss.METRIC_INNER_PRODUCT
    )
    codes.pq.cp.min_points_per_centroid = 1
    codes.pq.cp.seed = config.seed
    rescored = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexRefine(codes, rescored)
    # FAISS holds plain pointers: hand it the ownership, else Python collects the parts when this function returns.
    codes.own_fields = index.own_fields = index.own_refine_index = True
    parts: tuple[Any, ...] = (cells, codes, rescored)
    for part in parts:
        part.this.disown()
    codes.nprobe = config.nprobe
    index.k_factor = config.k_factor
    index.train(vectors)
    index.add(vectors)
    return index


def _hnsw(vectors: Vectors, config: IndexConfig, centroids: Vectors | None) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], config.hnsw_links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = config.hnsw_ef
    index.add(vectors)
    return index


def _filled(index: Any, vectors: Vectors, config: IndexConfig) -> Any:
    index.train(vectors)  # the cells are there already; this trains the codes, if there are any
    index.add(vectors)
    index.nprobe = config.nprobe
    return index


Builder = Callable[[Vectors, IndexConfig, Vectors | None], Any]
BUILDERS: dict[str, Builder] = {
    "flat": _flat,
    "ivf_flat": _ivf_flat,
    "ivf_sq8": _ivf_sq8,
    "ivf_pq": _ivf_pq,
    "hnsw": _hnsw,
}
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
