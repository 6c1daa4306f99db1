"""From predictions to per-query ranks and metrics: the one code path of smoke, final, baseline and command line.

Q queries, L context chunks, D dimension, N corpus rows, K = K_MAX neighbours kept per query.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from data.errors import UserError
from data.payload.duplicates import share_with_duplicates
from evaluation.index.search import SearchIndex
from evaluation.measures.metrics import COPIED, EXACT, EXCLUDE_CONTEXT, K_MAX, NOVEL, IntArray, ranks, summarise
from evaluation.retrieval.baselines import PRIOR_ONLY, UNIT_NORM_TOLERANCE
from evaluation.retrieval.corpus import Corpus, Int32, QuerySet

Float32 = npt.NDArray[np.float32]


class Reranks(Protocol):
    """What reorders candidates (`evaluation.retrieval.rerank.Reranker`); the pool's ranks stay those before it."""

    def __call__(self, predictions: Float32, context: Int32, pool: IntArray, *, exclude_context: bool) -> IntArray:
        """From predictions (Q, D), context (Q, L) and the pool (Q, K) to results (Q, K_MAX), -1 padded."""
        ...

    def prior_only(self, context: Int32, *, exclude_context: bool) -> tuple[IntArray, IntArray]:
        """Results and pool, (Q, K_MAX) each, of the prior without any prediction."""
        ...


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Per-query truth of one variant on one query set; every figure is derived from these arrays."""

    variant: str
    query_set: str
    ranks: Int32  # (Q,) final, the context's own chunks may be results
    ranks_pool: Int32  # (Q,) the same before reranking
    ranks_exclude_context: Int32  # (Q,) final, the context's own chunks removed
    ranks_pool_exclude_context: Int32  # (Q,)
    ranks_exact: Int32  # (Q,) final, only the target's own row counts and none of its exact duplicates
    cosine: Float32  # (Q,) prediction . target
    neighbours: Int32  # (Q, K_MAX) final results, -1 padded
    duplicate_share: float  # share of queries whose target has an exact duplicate in the corpus
    novel: npt.NDArray[np.bool_] | None  # (Q,)

    def metrics(self) -> dict[str, float]:
        """Means over all queries and, under the prefixes of `evaluation.measures.metrics`, over others; n_queries,
        n_novel, duplicate_share.
        """
        found = summarise(self.ranks, self.ranks_pool, self.cosine)
        without = summarise(self.ranks_exclude_context, self.ranks_pool_exclude_context, self.cosine)
        found |= {EXCLUDE_CONTEXT + name: value for name, value in without.items() if name != "cosine"}
        found[f"{EXACT}r@5"] = summarise(self.ranks_exact, self.ranks_exact, self.cosine)["r@5"]
        found |= {"n_queries": len(self.ranks), "duplicate_share": self.duplicate_share}
        if self.novel is None:
            return found
        over = {prefix: self._summarise_some(some) for prefix, some in ((NOVEL, self.novel), (COPIED, ~self.novel))}
        found |= {NOVEL + name: value for name, value in over[NOVEL].items()}
        return {**found, f"{COPIED}r@5": over[COPIED]["r@5"], "n_novel": int(self.novel.sum())}

    def _summarise_some(self, some: npt.NDArray[np.bool_]) -> dict[str, float]:
        return summarise(self.ranks[some], self.ranks_pool[some], self.cosine[some])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The per-query arrays by name, small enough to travel and to be kept."""
        return {
            "ranks": self.ranks,
            "ranks_pool": self.ranks_pool,
            "ranks_exact": self.ranks_exact,
            "ranks_exclude_context": self.ranks_exclude_context,
            "ranks_pool_exclude_context": self.ranks_pool_exclude_context,
            "cosine": self.cosine,
            "neighbours": self.neighbours,
        }


def evaluate(
    index: SearchIndex,
    query_set: QuerySet,
    predictions: npt.NDArray[np.floating],
    corpus: Corpus,
    *,
    variant: str,
    k: int = K_MAX,
    reranker: Reranks | None = None,
) -> RetrievalResult:
    """Search every prediction once and rank its target under both protocols.

    The search asks for k + L rows, so that k remain when the L context rows are taken out; exact duplicates of
    context rows are other rows and stay.

    Raises:
        UserError: naming the variant, when predictions are not (Q, D), not finite or not of norm 1, or when a
            query's row is not in the corpus.
    """
    predictions = check_predictions(predictions, (len(query_set), corpus.vectors.shape[1]), variant)
    check_windows(query_set, len(corpus.vectors))
    _, pool = index.search(predictions, k + query_set.context.shape[1])  # (Q, k + L)
    pools = pool[:, :k], remove_rows(pool, query_set.context)[:, :k]
    finals: tuple[IntArray, IntArray] = pools
    if reranker is not None:
        finals = (
            reranker(predictions, query_set.context, pools[0], exclude_context=False),
            reranker(predictions, query_set.context, pools[1], exclude_context=True),
        )
    truth = np.asarray(corpus.vectors[query_set.target], dtype=np.float32)  # (Q, D)
    cosine = np.einsum("qd,qd->q", predictions, truth)
    return _result(variant, query_set, corpus, cosine, pools=pools, finals=finals)


def evaluate_prior_only(query_set: QuerySet, corpus: Corpus, reranker: Reranks) -> RetrievalResult:
    """What the reranker's prior finds without any model; it has no prediction, so its cosine is NaN."""
    check_windows(query_set, len(corpus.vectors))
    final_with, pool_with = reranker.prior_only(query_set.context, exclude_context=False)
    final_without, pool_without = reranker.prior_only(query_set.context, exclude_context=True)
    cosine = np.full(len(query_set), np.nan, dtype=np.float32)
    finals, pools = (final_with, final_without), (pool_with, pool_without)
    return _result(PRIOR_ONLY, query_set, corpus, cosine, pools=pools, finals=finals)


def _result(
    variant: str,
    query_set: QuerySet,
    corpus: Corpus,
    cosine: Float32,
    *,
    pools: tuple[IntArray, IntArray],
    finals: tuple[IntArray, IntArray],
) -> RetrievalResult:
    """Rank the targets in pools and results with and without the context's own rows."""
    target, same = query_set.target, corpus.duplicate_ids
    result = RetrievalResult(
        variant=variant,
        query_set=query_set.name,
        ranks=ranks(finals[0], target, same),
        ranks_pool=ranks(pools[0], target, same),
        ranks_exclude_context=ranks(finals[1], target, same),
        ranks_pool_exclude_context=ranks(pools[1], target, same),
        ranks_exact=ranks(finals[0], target, np.arange(len(same), dtype=np.int32)),
        cosine=cosine,
        neighbours=finals[0][:, :K_MAX].astype(np.int32),
        duplicate_share=share_with_duplicates(target, same),
        novel=query_set.novel,
    )
    scored = {len(array) for array in result.arrays().values()}
    assert scored == {len(query_set)}, f"every query is scored: {scored} of {len(query_set)}"
    return result


def remove_rows(results: IntArray, unwanted: Int32) -> IntArray:
    """Take each query's unwanted rows (Q, L) out of its results (Q, K); the rest moves up, -1 fills the end."""
    taken = (results[:, :, None] == unwanted[:, None, :]).any(axis=2)  # (Q, K)
    order = np.argsort(taken, axis=1, kind="stable")  # kept ones first, in their order
    moved = np.take_along_axis(np.where(taken, -1, results), order, axis=1)
    return np.asarray(moved)


def check_predictions(predictions: npt.NDArray[np.floating], shape: tuple[int, int], variant: str) -> Float32:
    """Return predictions as float32 (Q, D), or say in one line what is wrong with the variant's."""
    if predictions.shape != shape:
        raise UserError(
            f"{variant}: expected predictions of shape {shape}, got {predictions.shape}; "
            "one row per query in the payload's dimension"
        )
    if not np.isfinite(predictions).all():
        bad = int((~np.isfinite(predictions)).any(axis=1).sum())
        raise UserError(
            f"{variant}: expected finite predictions, got NaN or infinity in {bad} of {len(predictions)}; "
            "the training diverged or the checkpoint is damaged"
        )
    norms = np.linalg.norm(predictions.astype(np.float32), axis=1)
    worst = float(np.abs(norms - 1.0).max(initial=0.0))
    if worst > UNIT_NORM_TOLERANCE:
        raise UserError(
            f"{variant}: expected predictions of norm 1, got norms from {norms.min():.4f} to {norms.max():.4f}; "
            "normalise the model's output"
        )
    return np.ascontiguousarray(predictions, dtype=np.float32)


def check_windows(query_set: QuerySet, num_rows: int) -> None:
    """Refuse queries whose rows the corpus does not have: their ranks would be of something else."""
    windows = query_set.windows
    if windows.ndim != 2 or windows.shape[1] < 2:
        raise UserError(
            f"query set {query_set.name}: expected windows (Q, L + 1) with L >= 1, got shape {windows.shape}; "
            "build them with data.windows.table"
        )
    if len(windows) and (windows.min() < 0 or windows.max() >= num_rows):
        raise UserError(
            f"query set {query_set.name}: expected rows from 0 to {num_rows - 1}, got {windows.min()} to "
            f"{windows.max()}; the windows were built for another payload"
        )
