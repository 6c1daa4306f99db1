"""The optional reranker: shard assist, a sequence prior and MMR over the candidates of a search.

Q queries, L context rows, C candidates, K = K_MAX results, D dimension. For a prediction p, the last context row l and
a candidate c, with gap = chunk_index(c) - chunk_index(l):

    score = c.p + 0.05 [same article] + 0.12 [same article and gap >= 1] exp(-(gap - 1) / 3)
            + 0.03 cos(c - l, p - l)

Results are picked one after the other by lambda * score - (1 - lambda) * (largest cosine to those picked before), the
maximal marginal relevance of Carbonell & Goldstein 1998. Candidates are the search's K rows and the `k_local` rows of
the last context row's article that are nearest to p ("shard assist").

The pool of Contain@k is that of the search, before shard assist, so Eff@5 may exceed 1 with the reranker on.

The sequence prior alone can find the next chunk. `prior_only` ranks by it without any model, so its row shows what is
the prior's merit and not the model's.
"""

import numpy as np
import numpy.typing as npt

from evaluation.config import RerankConfig
from evaluation.measures.metrics import K_MAX, IntArray
from evaluation.retrieval.corpus import Corpus
from evaluation.retrieval.evaluate import remove_rows

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

QUERIES_AT_ONCE = 128  # 128 x 70 candidates x 768 dimensions: 28 MB


class Reranker:
    """Reranks candidates of one corpus."""

    def __init__(self, corpus: Corpus, config: RerankConfig) -> None:
        self._corpus = corpus
        self._config = config
        self._order = np.argsort(corpus.article_index, kind="stable")  # rows by article
        self._articles = corpus.article_index[self._order]

    def __call__(self, predictions: Float32, context: Int32, pool: IntArray, *, exclude_context: bool) -> IntArray:
        """From predictions (Q, D), context (Q, L) and the search's rows (Q, K) to results (Q, K_MAX), -1 padded."""
        results = np.full((len(predictions), K_MAX), -1, dtype=np.int64)
        for start in range(0, len(predictions), QUERIES_AT_ONCE):
            block = slice(start, start + QUERIES_AT_ONCE)
            local = self._local(predictions[block], context[block])
            candidates = unite(pool[block], local)
            if exclude_context:
                candidates = remove_rows(candidates, context[block])
            results[block] = self._ranked(candidates, context[block, -1], predictions[block])
        return results

    def prior_only(self, context: Int32, *, exclude_context: bool) -> tuple[IntArray, IntArray]:
        """Results (Q, K_MAX) and pool (Q, K_MAX) of the sequence prior alone, without any prediction.

        The pool is the article's chunks by their prior; MMR then reorders it as it would with a model.
        """
        results = np.full((len(context), K_MAX), -1, dtype=np.int64)
        pools = results.copy()
        for query, rows in enumerate(context):
            members = self._members(int(rows[-1]))
            if exclude_context:
                members = members[~np.isin(members, rows)]
            prior = self._prior(members[None], rows[None, -1])[0]
            best = members[np.argsort(-prior, kind="stable")][:K_MAX]
            pools[query, : len(best)] = best
            results[query] = self._ranked(pools[query : query + 1], rows[None, -1], None)[0]
        return results, pools

    def _local(self, predictions: Float32, context: Int32) -> IntArray:
        """The k_local rows of each query's article nearest to its prediction: (Q, k_local), -1 padded."""
        width = self._config.k_local
        local = np.full((len(predictions), width), -1, dtype=np.int64)
        last = context[:, -1]
        for article in np.unique(self._corpus.article_index[last]) if width else ():
            queries = np.flatnonzero(self._corpus.article_index[last] == article)
            members = self._members(int(last[queries[0]]))
            scores = predictions[queries] @ self._vectors(members).T  # (q, members)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :width]
            local[queries, : best.shape[1]] = members[best]
        return local

    def _members(self, row: int) -> IntArray:
        """All rows of a row's article."""
        article = self._corpus.article_index[row]
        first, end = np.searchsorted(self._articles, article, "left"), np.searchsorted(self._articles, article, "right")
        return np.asarray(self._order[first:end])

    def _vectors(self, rows: IntArray) -> Float32:
        return np.asarray(self._corpus.vectors[np.maximum(rows, 0)], dtype=np.float32)

    def _prior(self, candidates: IntArray, last: Int32) -> Float32:
        """The part of the score that knows only positions: (Q, C)."""
        rows = np.maximum(candidates, 0)
        same = self._corpus.article_index[rows] == self._corpus.article_index[last][:, None]
        gap = self._corpus.chunk_index[rows] - self._corpus.chunk_index[last][:, None]
        near = np.where(gap >= 1, np.exp(-(np.maximum(gap, 1) - 1) / self._config.sequence_decay), 0.0)
        prior = same * (self._config.same_article + self._config.sequence * near)
        return np.asarray(prior, dtype=np.float32)

    def _ranked(self, candidates: IntArray, last: Int32, predictions: Float32 | None) -> IntArray:
        """Score and pick: (Q, K_MAX), -1 padded."""
        vectors = self._vectors(candidates)  # (Q, C, D)
        score = self._prior(candidates, last)  # (Q, C)
        if predictions is not None:
            score = score + np.einsum("qcd,qd->qc", vectors, predictions)
            score = score + self._config.directional * directional(vectors, self._vectors(last), predictions)
        picked = mmr(np.where(candidates >= 0, score, -np.inf), vectors, self._config.mmr_lambda, K_MAX)
        rows = np.take_along_axis(candidates, np.maximum(picked, 0), axis=1)
        results = np.full((len(candidates), K_MAX), -1, dtype=np.int64)
        results[:, : picked.shape[1]] = np.where(picked >= 0, rows, -1)
        return results


def unite(pool: IntArray, local: IntArray) -> IntArray:
    """The pool (Q, K) and those of local (Q, k) that it lacks: (Q, K + k), -1 where there is none."""
    known = (local[:, :, None] == pool[:, None, :]).any(axis=2)
    return np.concatenate([pool, np.where(known, -1, local)], axis=1)


def directional(candidates: Float32, last: Float32, predictions: Float32) -> Float32:
    """Cosine between (candidate - last context) and (prediction - last context): (Q, C), 0 where one vanishes."""
    step = candidates - last[:, None, :]  # (Q, C, D)
    wanted = predictions - last  # (Q, D)
    norms = np.linalg.norm(step, axis=2) * np.linalg.norm(wanted, axis=1)[:, None]
    dots = np.einsum("qcd,qd->qc", step, wanted)
    return np.where(norms > 1e-6, dots / np.where(norms > 1e-6, norms, 1.0), 0.0).astype(np.float32)


def mmr(score: Float32, vectors: Float32, weight: float, num: int) -> IntArray:
    """Greedy maximal marginal relevance, all queries a step at a time.

    Args:
        score: (Q, C), -inf for candidates that do not exist.
        vectors: (Q, C, D) of norm 1.
        weight: lambda; 1 keeps the order of the scores.
        num: how many are picked.

    Returns:
        (Q, min(num, C)) places among the candidates in the order they are picked, -1 where none is left.
    """
    queries = np.arange(len(score))
    similar = np.matmul(vectors, vectors.transpose(0, 2, 1))  # (Q, C, C)
    nearest = np.zeros_like(score)  # largest cosine to those picked; nothing is picked yet
    left = np.isfinite(score)
    picked = np.full((len(score), min(num, score.shape[1])), -1, dtype=np.int64)
    for step in range(picked.shape[1]):
        value = np.where(left, weight * np.where(left, score, 0.0) - (1.0 - weight) * nearest, -np.inf)
        best = value.argmax(axis=1)
        exists = left[queries, best]
        picked[:, step] = np.where(exists, best, -1)
        left[queries, best] = False
        similar_to_best = similar[queries, best]
        nearest = similar_to_best if step == 0 else np.maximum(nearest, similar_to_best)
    return picked
