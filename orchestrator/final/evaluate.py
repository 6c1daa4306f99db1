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
from evaluation.results import load_arrays, save_arrays
from evaluation.statistics.outcomes import Outcomes
from evaluation.statistics.resampling import intervals
from orchestrator.config.experiment import PlannedTrial
from orchestrator.final.result import FinalResult
from orchestrator.final.seeds import VariantEnd, pool, variant_end
from orchestrator.run.faults import one_line
from orchestrator.run.ledger import TrialEnd, VariantFolder
from orchestrator.run.records import read_predictions
from orchestrator.state import Prepared, Started, Trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The final figures of every row that has some, and how every variant and its trials ended."""

    ends: Mapping[str, VariantEnd]
    trained: Mapping[str, FinalResult]
    untrained: Mapping[str, FinalResult]
    trials: Mapping[str, FinalResult]
    """Those of single trials, by their names."""


class FinalEvaluations:
    """Evaluates rows on the final queries, each once: a stage's gates and the table read the same result."""

    def __init__(self, prepared: Prepared, started: Started) -> None:
        self._evaluator = started.evaluator
        self._trials: dict[str, FinalResult] = {}
        self._failures: dict[str, str] = {}
        self.plan(prepared)

    def plan(self, prepared: Prepared) -> None:
        """Take in the trials of a run; a search may draw some while it runs."""
        self._prepared = prepared
        # Working out the trials takes tens of milliseconds in a large search, and every row asks for its own.
        self._planned: dict[str, list[PlannedTrial]] = {}
        for trial in prepared.config.trials.values():
            self._planned.setdefault(trial.variant.name, []).append(trial)

    @cached_property
    def baselines(self) -> dict[str, FinalResult]:
        """The results of the baselines that are not trained, by name; with a reranker that of its prior alone, too."""
        answers = ray.get(self._evaluator.baselines.remote("final"))
        return {
            name: self._keep(name, answer, Latency(answer["predict_ms"]), chosen=answer["chosen"])
            for name, answer in answers.items()
        }

    def variant(self, name: str, ends: Mapping[str, TrialEnd]) -> FinalResult | None:
        """Return a variant's result, the mean over its trials that survived; None where it did not survive.

        `ends`: those of the trials that have ended. A variant with a trial that has not is none yet.
        """
        if not all(trial.name in ends for trial in self._planned[name]):
            return None
        found, results = self._variant(name, ends)
        return self._pool(name, found, results) if found.survivors else None

    def _variant(self, name: str, ends: Mapping[str, TrialEnd]) -> tuple[VariantEnd, dict[str, FinalResult]]:
        """Evaluate a variant's surviving trials; one whose evaluation raises has failed and takes no other along.

        Of a search only the sample that validation chose is evaluated, and the next one should that fail.
        """
        while True:
            found = self._end(name, ends)
            results = {trial: result for trial in found.survivors if (result := self._trial(trial)) is not None}
            if len(results) == len(found.survivors):
                return found, results

    def _end(self, name: str, ends: Mapping[str, TrialEnd]) -> VariantEnd:
        config, planned = self._prepared.config, self._planned[name]
        failed = {
            trial: TrialEnd(ending=Ending.FAILED, epoch=ends[trial].epoch, reason=reason)
            for trial, reason in self._failures.items()
        }
        return variant_end(
            planned,
            {**ends, **failed},
            self._prepared.ledger,
            selection=config.selection(planned[0].variant),
            survive=config.gates.survive,
        )

    def _trial(self, name: str) -> FinalResult | None:
        if name not in self._trials and name not in self._failures:
            try:
                self._trials[name] = self._evaluate(name)
            except Exception as error:
                traceback.print_exc()
                self._failures[name] = f"its final evaluation: {one_line(error)}"
        return self._trials.get(name)

    def _pool(self, name: str, found: VariantEnd, results: Mapping[str, FinalResult]) -> FinalResult:
        pooled = pool(results, found.trial)
        return pooled if len(results) == 1 else replace(pooled, ci={**pooled.ci, **self._intervals(pooled.outcomes)})

    def _evaluate(self, name: str) -> FinalResult:
        """Rank the targets under the predictions that the trial left, and keep the per-query truth in its folder."""
        folder = self._prepared.ledger.variant(name)
        predictions, about = read_predictions(folder)
        answer = ray.get(self._evaluator.evaluate.remote(name, "final", predictions))
        result = self._keep(name, answer, Latency(np.asarray(about["predict_ms"])), chosen={})
        return replace(result, checkpoint_sha256=file_sha256(folder.best), checkpoint_epoch=about["best_epoch"])

    def evaluate_rows(self, trained: Trained) -> Evaluated:
        """Evaluate every survivor and baseline; then time their searches in turns, now that nothing else runs."""
        found = {name: self._variant(name, trained.ends) for name in self._planned}
        trials = {trial: result for _, results in found.values() for trial, result in results.items()}
        timed = self._add_latencies({**trials, **self.baselines})
        rows = {}
        for name, (end, results) in found.items():
            if results:
                rows[name] = self._pool(name, end, {trial: timed[trial] for trial in results})
                self._keep_pooled(name, end, rows[name])
        return Evaluated(
            ends={name: end for name, (end, _) in found.items()},
            trained=rows,
            untrained={name: timed[name] for name in self.baselines},
            trials={trial: timed[trial] for trial in trials},
        )

    def _keep_pooled(self, name: str, end: VariantEnd, result: FinalResult) -> None:
        """Write the arrays of a row of several seeds: outcomes (S, Q), the rest as of the trial that stands for it."""
        folder, stands = self._prepared.ledger.variant(name), self._prepared.ledger.variant(end.trial)
        if folder.path == stands.path:
            return
        # With seeds the outcomes are stacked, (S, Q); of a search they are those of the chosen trial.
        folder.path.mkdir(parents=True, exist_ok=True)
        save_arrays(folder.path, {**load_arrays(stands.path), **result.outcomes.arrays()})
        _write(folder, result)

    def _keep(self, name: str, answer: dict[str, Any], predict: Latency, chosen: Mapping[str, Any]) -> FinalResult:
        """Write the per-query arrays; return the figures so far."""
        save_arrays(self._prepared.ledger.variant(name).path, answer)
        outcomes = Outcomes.of(answer)
        metrics = {**answer["metrics"], "predict_p95_ms": predict.p95_ms}
        ci = self._intervals(outcomes)
        return FinalResult(metrics=metrics, ci=ci, outcomes=outcomes, predict=predict, chosen=chosen)

    def _intervals(self, outcomes: Outcomes) -> dict[str, Any]:
        known, seed = self._prepared.questions.final.known, self._prepared.config.seed
        return dict(intervals(outcomes, known, seed=seed))

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
