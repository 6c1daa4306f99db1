"""What a person can configure about evaluation; imports neither FAISS nor torch, so the driver stays light."""

from dataclasses import dataclass
from typing import Literal, get_args

from data.errors import UserError

IndexKind = Literal["auto", "flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw"]
INDEX_KINDS: tuple[str, ...] = get_args(IndexKind)

INDEX_CHECKS = (
    "index_file",
    "index_dimension",
    "index_metric",
    "index_rows",
    "index_vectors",
    "index_fidelity",
    "index_fidelity_disturbed",
)
"""The checks of the preflight that need an index, by name: `preflight.waive` may hold them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """How the one index of a run is built and searched; inner product on unit vectors, so scores are cosines."""

    kind: IndexKind = "auto"
    """auto: the fastest of flat, ivf_flat, ivf_sq8 and ivf_pq whose fidelity suffices, flat where it is fast enough.
    flat: every row, exact. ivf_flat: inverted file, exact scores in the cells that are read. ivf_sq8: the same with
    8 bits a component. ivf_pq: 4-bit fast-scan product codes, the best candidates scored again with 8 bits a
    component. hnsw: a neighbour graph (slow to build, so auto does not try it)."""

    nlist: int | None = None
    """Cells of an inverted file; None: from N, see `evaluation.index.kinds.auto_nlist`."""

    nprobe: int = 64
    """Cells read per query (at most nlist); auto finds its own. 64 is the number of the original protocol."""

    k_factor: int = 4
    """ivf_pq: candidates scored again, per result asked for; auto finds its own."""

    file: str | None = None
    """A FAISS index of the payload that exists already, its rows numbered as the payload's or as those of the file that
    the payload was built from. The preflight compares it with the payload, then it is searched with nprobe, k_factor or
    hnsw_ef, and kind, nlist and hnsw_links are the file's. None: an index is built."""

    hnsw_links: int = 32
    """hnsw: links per row."""

    hnsw_ef: int = 128
    """hnsw: breadth of a search."""

    min_fidelity: float = 0.97
    """auto: least share of the exact top 50 that an index must find, for rows of the corpus and for disturbed ones."""

    seed: int = 0
    """Of the k-means that places the cells and of the sample on which fidelity is measured."""

    def __post_init__(self) -> None:
        if self.kind not in INDEX_KINDS:
            raise UserError(f"kind: expected one of {', '.join(INDEX_KINDS)}, got {self.kind!r}; choose one of them")
        if self.nlist is not None and self.nlist < 1:
            raise UserError(f"nlist: expected at least 1 or null, got {self.nlist}; null derives it from the corpus")
        for name, default in (("nprobe", 64), ("k_factor", 4), ("hnsw_links", 32), ("hnsw_ef", 128)):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}; {default} is the default")
        if not 0.0 < self.min_fidelity <= 1.0:
            raise UserError(f"min_fidelity: expected above 0 up to 1, got {self.min_fidelity}; 0.97 is the default")
        if self.seed < 0:
            raise UserError(f"seed: expected 0 or more, got {self.seed}; 0 is the default")


@dataclass(frozen=True, kw_only=True, slots=True)
class RerankConfig:
    """The weights of `evaluation.retrieval.rerank`, by default the original protocol's. Off unless given."""

    k_local: int = 20
    """Nearest chunks of the same article that join the candidates; 0: none."""

    mmr_lambda: float = 0.7
    """Weight of the score against diversity; 1: no diversity."""

    same_article: float = 0.05
    """Bonus of a candidate in the context's article."""

    sequence: float = 0.12
    """Bonus of the chunk right after the context, decaying with the gap."""

    sequence_decay: float = 3.0
    """Gap over which that bonus falls to a third (1/e)."""

    directional: float = 0.03
    """Weight of the cosine between the steps from the last context chunk to candidate and prediction."""

    def __post_init__(self) -> None:
        if self.k_local < 0:
            raise UserError(f"k_local: expected 0 or more, got {self.k_local}; 20 is the default")
        if not 0.0 < self.mmr_lambda <= 1.0:
            raise UserError(f"mmr_lambda: expected above 0 up to 1, got {self.mmr_lambda}; 0.7 is the default")
        if self.sequence_decay <= 0.0:
            raise UserError(f"sequence_decay: expected above 0, got {self.sequence_decay}; 3 is the default")
