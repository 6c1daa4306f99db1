"""Retrieval metrics with one target per query: ranks first, every mean derived from them.

Q queries, K neighbours, N corpus rows. A rank counts from 1; 0 means that the target is not in the first K_MAX.

With one relevant row per query R@k equals the hit rate (trec_eval calls it `success_k`) and Contain@k is R@k of the
candidate pool before any reranking. So without a reranker R@k = Contain@k.

Every retrieval metric is known under prefixes, too (`PREFIXES`): over another choice of queries, or counted otherwise.
`novel.r@5` decides; see data.windows.novelty for what novel is.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from data.errors import UserError
from models.spec.imported import load_object, name_of

K_MAX = 50
EXCLUDE_CONTEXT, NOVEL, COPIED, EXACT = "exclude_context.", "novel.", "copied.", "exact."
PREFIXES: dict[str, str] = {
    EXCLUDE_CONTEXT: "the query's own context chunks are taken out of the results",
    NOVEL: "over the queries whose target has no near copy among the chunks of the training windows",
    COPIED: "over the other queries: what copying is worth",
    EXACT: "exact duplicates of the target do not count as the target",
}
DECISION_METRIC = NOVEL + "r@5"
"""What ties, the best variant and its verdict are decided by."""

IntArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's name, unit and direction; nothing else hard-codes which way is better."""

    name: str
    unit: Literal["share", "cosine", "score", "ms"]
    higher_is_better: bool
    description: str


def _metric_table() -> dict[str, Metric]:
    rows = [
        Metric("cosine", "cosine", True, "mean over queries of prediction . target"),
        *(Metric(f"r@{k}", "share", True, f"target among the first {k} results") for k in (1, 5, 10)),
        *(Metric(f"contain@{k}", "share", True, f"target in the pool of {k} before reranking") for k in (20, 50)),
        Metric("eff@5", "share", True, "R@5 / Contain@50: how much of the pool's truth reaches the first five"),
        Metric("mrr@10", "score", True, "mean of 1/rank, 0 beyond rank 10"),
        Metric("p50_ms", "ms", False, "median wall time of one query, batch of one, one thread"),
        Metric("p95_ms", "ms", False, "95th percentile of the wall time of one query, batch of one, one thread"),
        Metric("p99_ms", "ms", False, "99th percentile of the wall time of one query, batch of one, one thread"),
        Metric("predict_p95_ms", "ms", False, "95th percentile of the model's forward pass, batch of one, one thread"),
        Metric("answer_p95_ms", "ms", False, "95th percentile of the whole answer: forward pass, search, reranking"),
    ]
    return {metric.name: metric for metric in rows}


METRICS: dict[str, Metric] = _metric_table()
RETRIEVAL_METRICS: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.unit != "ms")

Values = Callable[[IntArray], FloatArray]
_own: dict[str, Values] = {}


def register_metrics(paths: Sequence[str]) -> None:
    """Add metrics by import path, in place of those of an earlier call in this process.

    Each is a function from ranks (Q,) to values (Q,) whose mean is the metric.

    A metric has the function's name. Higher is better.

    Raises:
        UserError: a path names no such function, or its name is that of a metric.
    """
    for name in _own:
        METRICS.pop(name, None)
    _own.clear()
    for path in paths:
        name, values = name_of(path), load_object("metrics", path)
        if name in METRICS:
            raise UserError(f"metrics: expected a new name, got {path!r}, and {name} is a metric; rename the function")
        sample = np.array([1, 2, 0, 50], np.int32)
        try:
            found = np.asarray(values(sample), dtype=float)
        except Exception as error:  # somebody else's code may raise anything
            raise UserError(
                f"metrics: expected {path} to map ranks (Q,) to values (Q,), got {type(error).__name__} ({error}); "
                "correct the function"
            ) from error
        if found.shape != sample.shape or not np.isfinite(found).all():
            raise UserError(
                f"metrics: expected {path} to give a number for each rank, 0 (not found) too, got "
                f"{found.tolist()} for {sample.tolist()}; correct the function"
            )
        _own[name] = values
        METRICS[name] = Metric(name, "score", True, f"mean over queries of {path}")


def own_metrics() -> tuple[str, ...]:
    """The names of the metrics that were registered."""
    return tuple(_own)


def retrieval_metrics() -> tuple[str, ...]:
    """RETRIEVAL_METRICS and the registered ones."""
    return (*RETRIEVAL_METRICS, *_own)


_AT_K = re.compile(r"(r|contain)@([1-9][0-9]?)")


def split_prefix(name: str) -> tuple[str, str]:
    """Return the prefix of a metric spec, empty when it has none, and the rest."""
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return prefix, name[len(prefix) :]


def metric(name: str) -> Metric:
    """Return the definition of a metric spec: a name in METRICS, `r@k` or `contain@k` with k in 1..50, with or without
    one of PREFIXES; UserError lists the legal names.
    """
    prefix, bare = split_prefix(name)
    found = METRICS.get(bare) or _at_k(bare)
    if found is None or (prefix and found.unit == "ms"):
        raise UserError(
            f"metric: expected one of {', '.join(METRICS)}, r@k or contain@k with k from 1 to {K_MAX}, got {name!r}; "
            f"a retrieval metric may have one of the prefixes {', '.join(PREFIXES)}"
        )
    return found


def _at_k(name: str) -> Metric | None:
    match = _AT_K.fullmatch(name)
    if match is None or int(match[2]) > K_MAX:
        return None
    where = "the first {} results" if match[1] == "r" else "the pool of {} before reranking"
    return Metric(name, "share", True, f"target in {where.format(match[2])}")


def ranks(neighbours: IntArray, target: IntArray, duplicate_ids: IntArray) -> npt.NDArray[np.int32]:
    """Rank of the target in each query's results; an exact duplicate of the target counts as the target.

    Args:
        neighbours: (Q, K) corpus rows, best first, -1 where there is none.
        target: (Q,) corpus rows.
        duplicate_ids: (N,) the smallest row with an identical vector, for each row.

    Returns:
        (Q,) int32, from 1; 0 where the target is not among the K.
    """
    found = duplicate_ids[np.maximum(neighbours, 0)] == duplicate_ids[target][:, None]  # (Q, K)
    found &= neighbours >= 0
    first = found.argmax(axis=1) + 1
    return np.where(found.any(axis=1), first, 0).astype(np.int32)


def hits(rank: IntArray, k: int) -> npt.NDArray[np.bool_]:
    """Whether each query's target is among the first k: (Q,) bool."""
    return (rank >= 1) & (rank <= k)


def reciprocal(rank: IntArray, k: int) -> npt.NDArray[np.float64]:
    """1/rank where 1 <= rank <= k, else 0: (Q,) float64."""
    return np.where(hits(rank, k), 1.0 / np.maximum(rank, 1), 0.0)


def per_query(name: str, ranks_final: IntArray, ranks_pool: IntArray, cosine: FloatArray) -> npt.NDArray[np.float64]:
    """The values (..., Q) whose mean is the metric; Eff@5 has none (a ratio of two means), so it is refused."""
    assert name != "eff@5", "eff@5 is a ratio of means, not a mean"
    if name == "cosine":
        return np.asarray(cosine, dtype=np.float64)
    if name in _own:
        flat = np.asarray(_own[name](ranks_final.reshape(-1)), dtype=np.float64)
        return flat.reshape(ranks_final.shape)
    kind, k = name.split("@")
    value: dict[str, Callable[[], npt.NDArray[np.float64]]] = {
        "r": lambda: hits(ranks_final, int(k)).astype(np.float64),
        "contain": lambda: hits(ranks_pool, int(k)).astype(np.float64),
        "mrr": lambda: reciprocal(ranks_final, int(k)),
    }
    return value[kind]()


def efficiency(r_at_5: float, contain_at_50: float) -> float:
    """Eff@5 = R@5 / Contain@50; NaN, not a flattering 0 or 1, when nothing was contained."""
    return r_at_5 / contain_at_50 if contain_at_50 > 0 else float("nan")


def summarise(ranks_final: IntArray, ranks_pool: IntArray, cosine: FloatArray) -> dict[str, float]:
    """Means over queries of every retrieval metric.

    Args:
        ranks_final: (Q,) after the reranker, if there is one.
        ranks_pool: (Q,) before it; the same array when there is none.
        cosine: (Q,) prediction . target.

    Returns:
        One value for each of `retrieval_metrics()`; all NaN when there is no query.
    """
    assert len(ranks_final) == len(ranks_pool) == len(cosine)
    if len(ranks_final) == 0:
        return dict.fromkeys(retrieval_metrics(), float("nan"))
    means = {
        name: float(per_query(name, ranks_final, ranks_pool, cosine).mean())
        for name in retrieval_metrics()
        if name != "eff@5"
    }
    means["eff@5"] = efficiency(means["r@5"], means["contain@50"])
    return {name: means[name] for name in retrieval_metrics()}


def soft_recall(ranks: IntArray, k: int) -> float:
    """Return the mean of 1 / (1 + (rank / k)^2) over ranks (Q,) from 1: R@k without its edge, for choosing by.

    A target at rank k counts half. Unlike R@k it also moves with targets that are near the first k, so a few hundred
    queries tell two settings apart.
    """
    return float(soft_hits(ranks, k).mean())


def soft_hits(ranks: IntArray, k: int) -> npt.NDArray[np.float64]:
    """Return what each rank (Q,) adds to a soft recall, (Q,)."""
    return 1.0 / (1.0 + (np.asarray(ranks, np.float64) / k) ** 2)
