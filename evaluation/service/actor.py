"""The evaluation service of a run: holds the one index, answers smoke and final evaluations of all trials.

A plain class, so that tests use it without a cluster; the orchestrator wraps it with `ray.remote`. Its process must
not import torch: FAISS and torch bring two OpenMP runtimes that crash or fight when they share a process.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from data.errors import UserError
from data.payload.store import open_payload
from data.preflight.run import blocking
from evaluation.config import IndexConfig, RerankConfig
from evaluation.index.build import build_index
from evaluation.index.fidelity import sampled_fidelity
from evaluation.index.file import open_index_file
from evaluation.index.search import SearchIndex
from evaluation.index.store import open_or_build
from evaluation.measures.latency import Latency, measure, measure_interleaved
from evaluation.measures.metrics import K_MAX, register_metrics
from evaluation.retrieval.baselines import BASELINES, FITTED, PRIOR_ONLY, ParameterFree, fit_baseline, parameter_free
from evaluation.retrieval.corpus import Corpus, QuerySet, TrainingWindows, corpus_of
from evaluation.retrieval.evaluate import RetrievalResult, evaluate, evaluate_prior_only
from evaluation.retrieval.fitted.choice import FittedBaseline, Predict, TrainingData
from evaluation.retrieval.fitted.ridge import FittedRidge
from evaluation.retrieval.oracle import neighbourhood_oracle
from evaluation.retrieval.rerank import Reranker
from evaluation.retrieval.triage import triage
from models.spec.imported import name_of

Float32 = npt.NDArray[np.float32]
PREDICT_LATENCY_QUERIES = 200  # a batch-of-one prediction of a baseline is timed this often, at the most
PREDICT_LATENCY_S = 2.0  # and for about so long: a look-up reads every training window each time


class Evaluator:
    """Builds the index once, then turns predictions into per-query ranks, metrics and latency."""

    def __init__(
        self,
        payload_path: str,
        index: IndexConfig,
        query_sets: Collection[QuerySet],
        *,
        training: TrainingWindows | None = None,
        baselines: Sequence[str] = tuple(BASELINES),
        metrics: Sequence[str] = (),
        threads: int = 1,
        index_dir: str | None = None,
        rerank: RerankConfig | None = None,
        waive: Collection[str] = (),
    ) -> None:
        """Open the payload and build the index, or open it from `index_dir`, where it is kept for later runs.

        `baselines`: names of those that `baselines` evaluates, or import paths; the fitted ones need the `training`
        windows. `metrics`: import paths of further ones, see `register_metrics`. `threads`: of a fit, which does not
        depend on them; searches have one.
        With `index.file` that file is searched instead. With `rerank` every evaluation is reranked, and `baselines` has
        the further row `prior-only`. `waive`: names of checks of the file that may fail; a file that cannot be searched
        at all is then left aside, and an index is built.

        Raises:
            UserError: the file is not an index of this payload.
        """
        # What ivf_sq8 finds differs in the last bits between one thread and several.
        faiss.omp_set_num_threads(1)
        payload = open_payload(payload_path)
        self._corpus: Corpus = corpus_of(payload)
        self._query_sets = {queries.name: queries for queries in query_sets}
        self._training = _training_data(self._corpus, training, threads) if training else None
        self._entries = {name_of(entry): entry for entry in baselines}
        register_metrics(metrics)
        self._baselines: dict[str, FittedBaseline] = {}
        self._rerank = rerank
        self._reranker = Reranker(self._corpus, rerank) if rerank is not None else None
        self._answer_one_of: dict[str, dict[str, Callable[[int], object]]] = {name: {} for name in self._query_sets}
        self._predictions: dict[str, dict[str, Float32]] = {name: {} for name in self._query_sets}
        self._num_builds = 0
        self._shared: Any = None
        opened = self._open_file(index, waive, payload.source_rows) if index.file is not None else None
        self._index = opened or self._build(index, payload.provenance.sha256, index_dir)

    def _open_file(
        self, config: IndexConfig, waive: Collection[str], source_rows: npt.NDArray[np.int32] | None
    ) -> SearchIndex | None:
        index, checks = open_index_file(self._corpus.vectors, config, waive, source_rows)
        for check in blocking(checks):
            raise UserError(check.line())
        if index is not None:
            found = sampled_fidelity(index, np.ascontiguousarray(self._corpus.vectors, dtype=np.float32))
            index.notes |= {name: round(value, 4) for name, value in found.items()}
        return index

    def _build(self, config: IndexConfig, payload_sha256: str, index_dir: str | None) -> SearchIndex:
        if index_dir is None:
            self._num_builds += 1
            return build_index(self._corpus.vectors, config)
        index, built = open_or_build(self._corpus.vectors, config, payload_sha256, index_dir)
        self._num_builds += built
        return index

    def share_payload(self) -> Any:
        """Put the vectors (N, D) and article_index (N,) into Ray's object store, once; return the reference.

        For workers on nodes that do not see the payload's folder.
        """
        if self._shared is None:
            import ray

            # Arrays of numpy's own class: a subclass such as a memory map would travel by value, as bytes.
            self._shared = ray.put((np.asarray(self._corpus.vectors), np.asarray(self._corpus.article_index)))
        return self._shared

    def ready(self) -> dict[str, Any]:
        """What was built and how. `index_builds` is 1 for the whole life of a run (0 when a kept index was opened),
        `torch_imported` is False.
        """
        return {
            "index": self._index.describe(),
            "build_s": self._index.build_s,
            "index_builds": self._num_builds,
            "rerank": asdict(self._rerank) if self._rerank is not None else None,
            "torch_imported": "torch" in sys.modules,
            "query_sets": {name: len(queries) for name, queries in self._query_sets.items()},
        }

    def evaluate(
        self,
        variant: str,
        query_set: str,
        predictions: npt.NDArray[np.floating],
        *,
        latency_queries: int = 0,
    ) -> dict[str, Any]:
        """Rank the targets of a query set under a variant's predictions.

        Args:
            variant: named in errors.
            query_set: one of the names given at construction.
            predictions: (Q, D), finite, norm 1, in the order of the query set.
            latency_queries: how many single queries are timed; 0 times none.

        Returns:
            `metrics` (floats by name, both protocols), `ci` (latency intervals), and the per-query arrays of
            `RetrievalResult.arrays()`, with `latency_ms` (T,) when timed.
        """
        queries = self._query_set(query_set)
        result = evaluate(self._index, queries, predictions, self._corpus, variant=variant, reranker=self._reranker)
        predictions = np.ascontiguousarray(predictions, dtype=np.float32)

        def answer_one(row: int) -> object:
            return self._answer_one(queries, predictions, row)

        self._answer_one_of[query_set][variant] = answer_one
        self._predictions[query_set][variant] = predictions
        return self._answer(result, answer_one, latency_queries)

    def latencies(self, query_set: str, num_timed: int) -> dict[str, dict[str, Any]]:
        """Time everything that was last evaluated on a query set, in turns, so that a load on the machine falls on all.

        Returns:
            For each name `metrics` and `ci` (latencies only) and `latency_ms` (T,), T >= num_timed.
        """
        rows = np.arange(len(self._query_set(query_set)))[:, None]

        def nothing() -> None:
            return None

        def timed(answer_one: Callable[[int], object]) -> Callable[[npt.NDArray[Any]], object]:
            return lambda row: answer_one(int(row[0, 0]))

        subjects = {name: (nothing, timed(one)) for name, one in self._answer_one_of[query_set].items()}
        with self._index.search_on_one_thread():
            found = measure_interleaved(subjects, rows, num_timed)
        return {
            name: {
                "metrics": latency.metrics(),
                "ci": latency.intervals(),
                "latency_ms": latency.samples_ms.astype(np.float32),
            }
            for name, latency in found.items()
        }

    def baselines(
        self, query_set: str, *, latency_queries: int = 0, time_predictions: bool = True
    ) -> dict[str, dict[str, Any]]:
        """Evaluate every baseline that needs no training on a query set, through the same path as a model.

        Returns:
            By name what `evaluate` returns, and `chosen`, what was chosen on validation windows. With
            `time_predictions` also `predict_ms` (T,), the timed predictions of single queries, and their percentile.
        """
        queries = self._query_set(query_set)
        answers = {}
        for name in self._entries:
            fitted = self._fitted(name)
            context = np.asarray(self._corpus.vectors[queries.context], dtype=np.float32)  # (Q, L, D)
            answer = self.evaluate(name, query_set, fitted.predict(context), latency_queries=latency_queries)
            if time_predictions:
                timed = _timed_alone(fitted.predict, context)
                answer["metrics"]["predict_p95_ms"] = timed.p95_ms
                answer["predict_ms"] = timed.samples_ms.astype(np.float32)
            answers[name] = {**answer, "chosen": fitted.chosen}
        if self._reranker is not None:
            prior = self._prior_only(queries, self._reranker, latency_queries)
            answers[PRIOR_ONLY] = {**prior, "predict_ms": np.zeros(1, np.float32), "chosen": {}}
        return answers

    def _fitted(self, name: str) -> FittedBaseline:
        """Fit a baseline when it is first asked for."""
        found = self._baselines.get(name)
        if found is None:
            if name in FITTED and self._training is None:
                raise UserError(f"baseline.{name}: expected training windows to fit it to, got none; leave it out")
            entry = self._entries.get(name, name)
            if self._training is None:
                found = ParameterFree(parameter_free(entry))
            else:
                found = fit_baseline(entry, self._training)
            self._baselines[name] = found
        return found

    def line(self) -> tuple[Float32, Float32]:
        """Return whitened_ridge for every position, for models that start from it; see `FittedRidge.by_position`."""
        ridge = self._fitted("whitened_ridge")
        assert isinstance(ridge, FittedRidge)
        return ridge.by_position()

    def reach(self, query_set: str) -> dict[str, float]:
        """Metrics of the oracle of the neighbourhood on a query set; see evaluation.retrieval.oracle."""
        queries = self._query_set(query_set)
        oracle = neighbourhood_oracle(self._corpus, queries)
        return evaluate(self._index, queries, oracle, self._corpus, variant="oracle", reranker=self._reranker).metrics()

    def _prior_only(self, queries: QuerySet, reranker: Reranker, latency_queries: int) -> dict[str, Any]:
        def answer_one(row: int) -> object:
            return reranker.prior_only(queries.context[row : row + 1], exclude_context=False)

        self._answer_one_of[queries.name][PRIOR_ONLY] = answer_one
        return self._answer(evaluate_prior_only(queries, self._corpus, reranker), answer_one, latency_queries)

    def _answer(self, result: RetrievalResult, answer_one: Callable[[int], object], num_timed: int) -> dict[str, Any]:
        """Metrics and arrays of a result, with the latency of answering one query after another when asked."""
        answer: dict[str, Any] = {"metrics": result.metrics(), "ci": {}, **result.arrays()}
        if num_timed > 0 and len(result.ranks) > 0:
            rows = np.arange(len(result.ranks))[:, None]
            with self._index.search_on_one_thread():
                timed = measure(lambda row: answer_one(int(row[0, 0])), rows, num_timed)
            answer["metrics"] |= timed.metrics()
            answer["ci"] |= timed.intervals()
            answer["latency_ms"] = timed.samples_ms.astype(np.float32)
        return answer

    def triage(self, variant: str, query_set: str) -> list[dict[str, Any]]:
        """Say why what was last evaluated of a variant retrieves so little; see evaluation.retrieval.triage."""
        predictions = self._predictions[query_set][variant]
        return triage(self._index, self._query_set(query_set), predictions, self._corpus)

    def time_again(self, variant: str, query_set: str, num_timed: int) -> dict[str, float]:
        """Measure once more the latency of what was last evaluated of a variant."""
        rows = np.arange(len(self._query_set(query_set)))[:, None]
        answer_one = self._answer_one_of[query_set][variant]
        with self._index.search_on_one_thread():
            return measure(lambda row: answer_one(int(row[0, 0])), rows, num_timed).metrics()

    def read_file(self, path: str) -> npt.NDArray[np.uint8] | None:
        """Return a file of the run folder for a trial on another node; None where there is none yet."""
        file = Path(path)
        return np.fromfile(file, np.uint8) if file.is_file() else None

    def _answer_one(self, queries: QuerySet, predictions: Float32, row: int) -> object:
        """One query through search and, when it is on, reranking."""
        one = predictions[row : row + 1]
        _, pool = self._index.search(one, K_MAX)
        if self._reranker is None:
            return pool
        return self._reranker(one, queries.context[row : row + 1], pool, exclude_context=False)

    def _query_set(self, name: str) -> QuerySet:
        if name not in self._query_sets:
            raise UserError(
                f"query set: expected one of {', '.join(self._query_sets)}, got {name!r}; "
                "name it when the evaluator is made"
            )
        return self._query_sets[name]


def _training_data(corpus: Corpus, windows: TrainingWindows, threads: int) -> TrainingData:
    articles = corpus.article_index[windows.val[:, -1]]
    return TrainingData(corpus.vectors, windows.train, windows.val, windows.val_novel, articles, threads)


def _timed_alone(predict: Predict, context: Float32) -> Latency:
    """Time predictions of single contexts out of (Q, L, D), fewer of them when they take long."""
    if not len(context):
        return Latency(np.empty(0))
    first = measure(predict, context, 1, warmup=1).p95_ms
    affordable = int(1000.0 * PREDICT_LATENCY_S / max(first, 1e-3))
    return measure(predict, context, min(max(affordable, 3), PREDICT_LATENCY_QUERIES), warmup=0)
