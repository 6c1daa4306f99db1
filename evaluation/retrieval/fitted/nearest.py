"""nearest_context: the look-up. What followed the training context that is nearest; the measure of memory.

The nearness of two contexts is the sum over lags of 0.5^lag times the cosine of their chunks at that lag.

Letters: Q queries, W training windows, L context length, D vector dimension.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.retrieval.fitted.choice import Float32, Int32, TrainingData, blocks, in_order

DECAY = 0.5
MOST_LAGS = 8  # 0.5^8 is 0.004: what lies further back decides nothing and would cost as much as the rest
_QUERIES = 1_024


@dataclass(frozen=True, eq=False, slots=True)
class FittedNearest:
    """The training windows, searched exactly, block by block; the first of equally near contexts is taken."""

    vectors: npt.NDArray[np.floating]
    """(N, D)."""
    train: Int32
    """(W, L + 1)."""
    threads: int = 1

    @property
    def chosen(self) -> dict[str, float]:
        """Nothing: the weights are fixed."""
        return {}

    def predict(self, context: Float32) -> Float32:
        """Predict for contexts (Q, L, D); see `FittedBaseline`. Every call reads all training contexts once."""
        found = self.nearest(context)
        return np.asarray(self.vectors[self.train[found, -1]], np.float32)

    def nearest(self, context: Float32) -> npt.NDArray[np.intp]:
        """Return the number of the nearest training window for each context (Q, L, D), (Q,)."""
        lags = min(MOST_LAGS, context.shape[1])
        weights = (DECAY ** np.arange(lags - 1, -1, -1.0)).astype(np.float32)
        queries = np.asarray(context[:, -lags:], np.float32).reshape(len(context), -1)  # (Q, lags * D)

        def nearest_in(windows: slice) -> tuple[npt.NDArray[np.intp], Float32]:
            rows = self.train[windows, -lags - 1 : -1]
            trained = np.asarray(self.vectors[rows], np.float32) * weights[:, None]  # (n, lags, D)
            trained = trained.reshape(len(rows), -1).T
            places, best_scores = np.empty(len(queries), np.intp), np.empty(len(queries), np.float32)
            for start in range(0, len(queries), _QUERIES):
                part = slice(start, start + _QUERIES)
                scores = queries[part] @ trained  # (q, n)
                places[part], best_scores[part] = scores.argmax(axis=1), scores.max(axis=1)
            return windows.start + places, best_scores

        best, best_score = np.zeros(len(queries), np.intp), np.full(len(queries), -np.inf, np.float32)
        for place, score in in_order(nearest_in, blocks(len(self.train), queries.shape[1]), self.threads):
            better = score > best_score
            best, best_score = np.where(better, place, best), np.where(better, score, best_score)
        return best


def fit_nearest(data: TrainingData) -> FittedNearest:
    """Keep the training windows."""
    return FittedNearest(data.vectors, data.train, data.threads)
