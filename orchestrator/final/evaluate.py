"""The final evaluation, when nothing trains any more: the survivors' predictions and the baselines, one index."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import ray

from data.io import file_sha256, write_json
from evaluation.ending import Ending
from evaluation.measures.latency import Latency, one_after_the_other
from evaluation.results import save_arrays
from evaluation.statistics.outcomes import Outcomes
from evaluation.statistics.resampling import intervals
from orchestrator.faults import one_line
from orchestrator.run.ledger import TrialEnd, VariantFolder
from orchestrator.run.records import read_predictions
from orchestrator.state import Prepared, Started, Trained


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalResult:
    """One survivor's or baseline's final figures, and the per-query outcomes behind them."""

    metrics: dict[str, Any]
    ci: dict[str, Any]
    outcomes: Outcomes
    predict: Latency
    chosen: Mapping[str, Any]
    """What a fitted baseline chose on validation windows; empty for trained rows."""
    checkpoint_sha256: str | None = None
    checkpoint_epoch: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The final figures of every row that has some, and how every trial ended."""

    ends: Mapping[str, TrialEnd]
    trained: Mapping[str, FinalResult]
    untrained: Mapping[str, FinalResult]


class FinalEvaluations:
    """Evaluates rows on the final queries, each once: a stage's gates and the table read the same result."""

    def __init__(self, prepared: Prepared, started: Started) -> None:
        self._prepared = prepared
        self._evaluator = started.evaluator
        self._survivors: dict[str, FinalResult] = {}
        self._failures: dict[str, str] = {}

    @cached_property
    def baselines(self) -> dict[str, FinalResult]:
        """The results of the baselines that are not trained, by name; with a reranker that of its prior alone, too."""
        answers = ray.get(self._evaluator.baselines.remote("final"))
        return {
            name: self._keep(name, answer, Latency(answer["predict_ms"]), chosen=answer["chosen"])
            for name, answer in answers.items()
        }

    def survivor(self, name: str) -> FinalResult | None:
        """Return a survivor's result; None when its evaluation raised, which ends this row and no other."""
        if name not in self._survivors and name not in self._failures:
            try:
                self._survivors[name] = self._evaluate(name)
            except Exception as error:
                traceback.print_exc()
                self._failures[name] = f"its final evaluation: {one_line(error)}"
        return self._survivors.get(name)

    def _evaluate(self, name: str) -> FinalResult:
        """Rank the targets under the predictions that the trial left, and keep the per-query truth in its folder."""
        folder = self._prepared.ledger.variant(name)
        predictions, about = read_predictions(folder)
        answer = ray.get(self._evaluator.evaluate.remote(name, "final", predictions))
        result = self._keep(name, answer, Latency(np.asarray(about["predict_ms"])), chosen={})
        return replace(result, checkpoint_sha256=file_sha256(folder.best), checkpoint_epoch=about["best_epoch"])

    def evaluate_rows(self, trained: Trained) -> Evaluated:
        """Evaluate every survivor and baseline; then time their searches in turns, now that nothing else runs."""
        named = [name for name, end in trained.ends.items() if end.ending.survived]
        survivors = {name: result for name in named if (result := self.survivor(name)) is not None}
        timed = self._add_latencies({**survivors, **self.baselines})
        failed = {
            name: TrialEnd(ending=Ending.FAILED, epoch=trained.ends[name].epoch, reason=reason)
            for name, reason in self._failures.items()
        }
        return Evaluated(
            ends={**trained.ends, **failed},
            trained={name: timed[name] for name in survivors},
            untrained={name: timed[name] for name in self.baselines},
        )

    def _keep(self, name: str, answer: dict[str, Any], predict: Latency, chosen: Mapping[str, Any]) -> FinalResult:
        """Write the per-query arrays; return the figures so far."""
        save_arrays(self._prepared.ledger.variant(name).path, answer)
        outcomes = Outcomes.of(answer)
        found = intervals(outcomes, self._prepared.questions.final.known, seed=self._prepared.config.seed)
        metrics = {**answer["metrics"], "predict_p95_ms": predict.p95_ms}
        return FinalResult(metrics=metrics, ci=dict(found), outcomes=outcomes, predict=predict, chosen=chosen)

    def _add_latencies(self, results: Mapping[str, FinalResult]) -> dict[str, FinalResult]:
        num_timed = self._prepared.config.final.latency_queries
        timed = ray.get(self._evaluator.latencies.remote("final", num_timed))
        complete = {}
        for name, result in results.items():
            folder, found = self._prepared.ledger.variant(name), timed[name]
            save_arrays(folder.path, {"latency_ms": found["latency_ms"]})
            whole = one_after_the_other(result.predict, Latency(found["latency_ms"].astype(np.float64)))
            metrics = {**result.metrics, **found["metrics"], "answer_p95_ms": whole.p95_ms}
            ci = {**result.ci, **found["ci"], "answer_p95_ms": whole.intervals()["p95_ms"]}
            complete[name] = replace(result, metrics=metrics, ci=ci)
            _write(folder, complete[name])
        return complete


def _write(folder: VariantFolder, result: FinalResult) -> None:
    checkpoint = {"sha256": result.checkpoint_sha256, "epoch": result.checkpoint_epoch}
    content = {"metrics": result.metrics, "ci": result.ci, "checkpoint": checkpoint, "chosen": result.chosen}
    write_json(folder.final, content)
