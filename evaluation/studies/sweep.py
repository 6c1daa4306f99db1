"""What breadth of search buys: nprobe (and k_factor) against fidelity, Contain@50, R@5 and P95, on a run's queries.

    python -m evaluation.index sweep RUN [--kinds ivf_flat ivf_pq] [--variant mamba_s] [--payload FOLDER]

The predictions come from the variant's best.pt (a process of its own), the queries from the run's queries.npz.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from data.errors import UserError, one_line
from evaluation.config import IndexConfig, IndexKind
from evaluation.index.auto import K_FACTORS, NPROBES
from evaluation.index.fidelity import exact_neighbours, overlap
from evaluation.index.kinds import centroids_of
from evaluation.index.search import SearchIndex, build_kind
from evaluation.measures.latency import measure
from evaluation.measures.metrics import K_MAX
from evaluation.retrieval.evaluate import evaluate
from evaluation.studies.subject import Subject, add_subject_arguments, load_subject

KINDS: tuple[IndexKind, ...] = ("flat", "ivf_flat", "ivf_sq8", "ivf_pq")
NUM_TIMED = 200


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of one index and what it costs and gives."""

    kind: str
    nprobe: int | None
    k_factor: int | None
    fidelity: float
    contain_at_50: float
    r_at_5: float
    p95_ms: float


Breadth = tuple[int | None, int | None]  # nprobe, k_factor


def sweep(subject: Subject, kinds: Sequence[IndexKind]) -> Iterator[Point]:
    """Measure every breadth of every kind; fidelity is over the predictions, the queries that matter."""
    vectors = np.ascontiguousarray(subject.corpus.vectors, dtype=np.float32)
    exact = exact_neighbours(vectors, subject.predictions)
    centroids = None
    for kind in kinds:
        index = build_kind(vectors, IndexConfig(kind=kind), centroids)
        centroids = centroids_of(index.faiss_index)
        for breadth in _breadths(index):
            index.with_breadth(nprobe=breadth[0], k_factor=breadth[1])
            yield _point(index, subject, exact, breadth)


def _breadths(index: SearchIndex) -> Iterator[Breadth]:
    if not index.config.kind.startswith("ivf"):
        yield None, None
        return
    nlist = index.config.nlist or 1
    for k_factor in K_FACTORS if index.config.kind == "ivf_pq" else (None,):
        for nprobe in sorted({min(nprobe, nlist) for nprobe in NPROBES}):
            yield nprobe, k_factor


def _point(index: SearchIndex, subject: Subject, exact: npt.NDArray[np.int64], breadth: Breadth) -> Point:
    metrics = evaluate(index, subject.queries, subject.predictions, subject.corpus, variant="sweep").metrics()
    found = overlap(exact, index.search(subject.predictions, exact.shape[1])[1])
    with index.search_on_one_thread():
        latency = measure(lambda query: index.search(query, K_MAX), subject.predictions, NUM_TIMED)
    return Point(index.config.kind, *breadth, found, metrics["contain@50"], metrics["r@5"], latency.p95_ms)


def render(points: Sequence[Point]) -> str:
    """A plain table, one line a setting."""
    rows = [
        [
            point.kind,
            point.nprobe or "-",
            point.k_factor or "-",
            f"{point.fidelity:.4f}",
            f"{100 * point.contain_at_50:.2f}",
            f"{100 * point.r_at_5:.2f}",
            f"{point.p95_ms:.3f}",
        ]
        for point in points
    ]
    headers = ["index", "nprobe", "k_factor", "fidelity", "Contain@50 %", "R@5 %", "P95 ms"]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=["left"] + ["right"] * 6)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.index", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="sweep")
    command: Any = commands.add_parser("sweep", help="nprobe and k_factor against fidelity, Contain@50, R@5 and P95")
    add_subject_arguments(command)
    command.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args(argv)
    try:
        subject = load_subject(args.run, args.variant, args.payload, args.queries)
        points = list(sweep(subject, args.kinds))
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    sys.stdout.write(
        f"{subject.queries.name}, {len(subject.queries)} queries, {len(subject.corpus.vectors):,} rows, one thread\n"
    )
    sys.stdout.write(render(points) + "\n")
    return 0
