"""What a person can configure about evaluation; imports neither FAISS nor torch, so the driver stays light."""

from dataclasses import dataclass
from typing import Literal, get_args

IndexKind = Literal["auto", "flat", "ivf_flat"]
INDEX_KINDS: tuple[str, ...] = get_args(IndexKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """How the one index of a run is built and searched; inner product on unit vectors, so scores are cosines."""

    kind: IndexKind = "auto"
    """`auto` takes flat where N is small enough that nothing is gained by anything else."""

    nlist: int | None = None
    """Cells of an inverted-file index; None: from N, see `evaluation.index.auto_nlist`."""

    nprobe: int = 64
    """Cells read per query (at most nlist). 64 is the number of the original protocol."""

    seed: int = 0
    """Of the k-means that places the cells."""

    def __post_init__(self) -> None:
        if self.kind not in INDEX_KINDS:
            raise ValueError(f"kind: expected one of {', '.join(INDEX_KINDS)}, got {self.kind!r}; choose one of them")
        if self.nlist is not None and self.nlist < 1:
            raise ValueError(f"nlist: expected at least 1 or null, got {self.nlist}; null derives it from the corpus")
        if self.nprobe < 1:
            raise ValueError(f"nprobe: expected at least 1, got {self.nprobe}; 64 is the default")
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}; 0 is the default")
