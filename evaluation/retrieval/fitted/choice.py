"""What every fitted baseline sees, and the score by which validation chooses between settings.

Letters: N payload rows, D vector dimension, W training windows, V validation windows, Q queries, L context length.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from data.errors import UserError
from data.windows.novelty import distinct_rows
from evaluation.measures.metrics import soft_hits

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Predict = Callable[[Float32], Float32]
Setting = TypeVar("Setting")
Fit = TypeVar("Fit")
Part = TypeVar("Part")

MIN_NOVEL = 100  # with fewer novel validation windows the choice is made on all of them
NUM_QUERIES = 2_048  # of validation, spread evenly; standard error of the score about 0.008
MOST_PRODUCTS = 600_000_000  # of queries with rows for one score: a large payload is asked less, 584,545 rows 1,026
CHOICE_K, POOL_K = 5, 50
BLOCK_BYTES = 64 << 20
FIT_THREADS = 4  # trials wait for a fit, so it takes their cores; each thread holds a block, ridge's also 0.3 GB
SMALLEST_NORM = 1e-6


class FittedBaseline(Protocol):
    """A baseline that is ready to predict."""

    @property
    def chosen(self) -> Mapping[str, float]:
        """What was chosen on validation, and the form of the fit, by name; empty where there was nothing to choose."""
        ...

    def predict(self, context: Float32) -> Float32:
        """From contexts (Q, L, D), oldest chunk first, to unit predictions (Q, D), float32."""
        ...


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The windows that baselines are fitted to and chosen on, as rows of one payload."""

    vectors: npt.NDArray[np.floating]
    """(N, D) unit rows, float32 or float16, perhaps a memory map."""
    train: Int32
    """(W, L + 1) training windows."""
    val: Int32
    """(V, L + 1) validation windows."""
    val_novel: npt.NDArray[np.bool_]
    """(V,) whether the target is novel; see `data.windows.novelty`."""
    val_articles: Int32 | None = None
    """(V,) the article of each validation window, for standard errors; None: each window stands for itself."""
    threads: int = 1
    """How many blocks of rows are worked on at a time; a fit does not depend on it."""

    def __post_init__(self) -> None:
        for name in ("train", "val"):
            if not len(getattr(self, name)):
                raise UserError(f"baselines: expected windows in {name}, got none; give more articles or another seed")

    @cached_property
    def queries(self) -> Int32:
        """The validation windows that choose, (Q, L + 1): novel ones where there are enough, spread evenly."""
        return self.val[self._choosing]

    @cached_property
    def query_articles(self) -> Int32:
        """The article of each of them, (Q,)."""
        articles = np.arange(len(self.val), dtype=np.int32) if self.val_articles is None else self.val_articles
        return articles[self._choosing]

    @cached_property
    def _choosing(self) -> npt.NDArray[np.intp]:
        return choosing_queries(self.val_novel, len(self.vectors))

    @cached_property
    def train_mean(self) -> Float32:
        """The mean of the chunks that stand in training windows, each counted once, (D,)."""
        rows = distinct_rows(self.train, len(self.vectors))
        total = np.zeros(self.vectors.shape[1])
        for part in blocks(len(rows), self.vectors.shape[1]):
            total += self.vectors[rows[part]].sum(axis=0, dtype=np.float64)
        return (total / len(rows)).astype(np.float32)

    def score(self, predict: Predict) -> float:
        """Return the soft R@5 of predictions for the validation windows that choose, see `soft_recall`."""
        return float(self.soft_hits(predict)[0].mean())

    def soft_hits(self, predict: Predict) -> Float64:
        """Return what each of the validation windows that choose adds to the soft R@5 and to the soft R@50, (2, Q).

        The target's rank is that in the whole payload, the context's own rows included, as in the evaluation that
        decides. Over 35 settings of `context_ewm` on six splits of 27,000 real chunks the correlation of the soft R@5
        with novel R@5 on test articles is 0.5. That of the mean reciprocal rank among the few validation targets alone
        is -0.4.
        """
        predictions = np.concatenate([predict(self.context(self.queries[part])) for part in self.parts(self.queries)])
        targets = np.asarray(self.vectors[self.queries[:, -1]], np.float32)
        # The target is among the rows and may differ from its own product in the last bit.
        own = np.einsum("qd,qd->q", predictions, targets)[:, None] + 1e-6
        higher = np.zeros(len(predictions), np.int64)
        for part in blocks(len(self.vectors), len(predictions)):
            rows = np.asarray(self.vectors[part], np.float32)
            higher += (predictions @ rows.T > own).sum(axis=1)
        return np.stack([soft_hits(1 + higher, k) for k in (CHOICE_K, POOL_K)])

    def context(self, windows: Int32) -> Float32:
        """Gather the contexts of windows (Q, L + 1): (Q, L, D) float32."""
        return np.asarray(self.vectors[windows[:, :-1]], np.float32)

    def parts(self, windows: Int32) -> list[slice]:
        """Cut windows (Q, L + 1) into parts whose vectors have about BLOCK_BYTES."""
        return blocks(len(windows), windows.shape[1] * self.vectors.shape[1])


def choosing_queries(novel: npt.NDArray[np.bool_], num_rows: int) -> npt.NDArray[np.intp]:
    """Return which of V validation windows choose: the novel ones where there are enough, spread evenly.

    Args:
        novel: (V,) whether a window's target is novel.
        num_rows: of the payload that each of them is ranked in; a large one is asked less.
    """
    windows = np.flatnonzero(novel) if novel.sum() >= MIN_NOVEL else np.arange(len(novel))
    num = min(len(windows), NUM_QUERIES, max(1, MOST_PRODUCTS // num_rows))
    return windows[np.linspace(0, len(windows) - 1, num).round().astype(np.intp)]


def simplest(scores: Sequence[Float64], articles: Int32) -> int:
    """Return the place of the first setting that is behind the best one by no more than one standard error.

    Source: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3.

    Args:
        scores: (Q,) of each setting, the simplest setting first.
        articles: (Q,) of the queries; the standard error of a mean difference is that over articles.
    """
    best = max(scores, key=lambda score: float(score.mean()))
    behind = [best - score for score in scores]
    return next(place for place, one in enumerate(behind) if one.mean() <= _standard_error(one, articles))


def _standard_error(values: Float64, articles: Int32) -> float:
    """Of the mean of values (Q,), which are alike within an article; infinite where there is only one."""
    _, of_query = np.unique(articles, return_inverse=True)
    sums = np.bincount(of_query, values - values.mean())
    if len(sums) == 1:
        return np.inf
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values))


def fit_each(fit: Callable[[Setting], Fit], settings: Iterable[Setting], threads: int = 1) -> list[Fit]:
    """Return fit(setting) for each setting, in their order, with the given threads or a few; no fit depends on them."""
    return list(in_order(fit, settings, max(threads, min(FIT_THREADS, os.cpu_count() or 1))))


def in_order(function: Callable[[Part], Fit], parts: Iterable[Part], threads: int) -> Iterator[Fit]:
    """Yield function(part) for each part, in their order, several at a time; what is yielded depends on no thread.

    Not several threads of BLAS: where another process takes a core, they wait for each other by turning in circles.
    At most `threads` results are kept at a time.
    """
    if threads <= 1:
        yield from map(function, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[Fit]] = deque()
        for part in parts:
            running.append(pool.submit(function, part))
            if len(running) == threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def blocks(num: int, width: int) -> list[slice]:
    """Cut `num` rows of `width` float32 each into blocks of about BLOCK_BYTES."""
    size = max(1, BLOCK_BYTES // (4 * max(1, width)))
    return [slice(start, start + size) for start in range(0, num, size)]


def unit_or_last(direction: Float32, context: Float32) -> Float32:
    """Normalise directions (Q, D); where one vanishes, the last chunk of its context (Q, L, D) stands in."""
    norm = np.linalg.norm(direction, axis=1, keepdims=True)  # (Q, 1)
    vanishes = norm < SMALLEST_NORM
    return np.where(vanishes, context[:, -1], direction / np.where(vanishes, 1.0, norm)).astype(np.float32)
