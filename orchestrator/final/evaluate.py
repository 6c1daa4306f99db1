"""The final evaluation, when nothing trains any more: the survivors' best checkpoints and the baselines, one index."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.io import write_json
from evaluation.ending import Ending
from evaluation.results import save_arrays
from evaluation.retrieval.baselines import PRIOR_ONLY
from evaluation.statistics.significance import Outcomes, intervals
from orchestrator.cluster.start import beside_driver
from orchestrator.faults import one_line
from orchestrator.run.ledger import TrialEnd, VariantFolder
from orchestrator.state import Prepared, Started, Trained

# A batch-of-one forward pass is timed this often.
PREDICT_LATENCY_QUERIES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalResult:
    """One survivor's or baseline's final figures, and the per-query outcomes behind them."""

    metrics: dict[str, Any]
    ci: dict[str, Any]
    outcomes: Outcomes
    checkpoint_sha256: str | None = None
    checkpoint_epoch: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The final figures of every row that has some, and how every trial ended."""

    ends: Mapping[str, TrialEnd]
    trained: Mapping[str, FinalResult]
    untrained: Mapping[str, FinalResult]


class PredictorProcess:
    """The process that predicts with the survivors' checkpoints. It alone imports torch: the driver needs none."""

    def __init__(self) -> None:
        from evaluation.service.predict import Predictor

        self._predictor = Predictor()

    def predict(self, checkpoint: str, payload: str, windows: NDArray[np.int32]) -> dict[str, Any]:
        """Return predictions (Q, D) of windows (Q, L+1), and what the checkpoint says of itself."""
        return self._predictor.predict(checkpoint, payload, windows, latency_queries=PREDICT_LATENCY_QUERIES)


class FinalEvaluations:
    """Evaluates rows on the final queries, each once: a stage's gates and the table read the same result."""

    def __init__(self, prepared: Prepared, started: Started) -> None:
        self._prepared = prepared
        self._evaluator = started.evaluator
        self._survivors: dict[str, FinalResult] = {}
        self._failures: dict[str, str] = {}

    @cached_property
    def predictor(self) -> Any:
        """Handle of the process that predicts with checkpoints; it starts when it is first asked for."""
        import ray

        name = f"{self._prepared.config.name}/predictor"
        options = {"name": name, "num_cpus": 0, "scheduling_strategy": beside_driver()}
        return ray.remote(PredictorProcess).options(**options).remote()

    @cached_property
    def baselines(self) -> dict[str, FinalResult]:
        """The untrained baselines' results by name."""
        import ray

        answers = ray.get(self._evaluator.baselines.remote("final"))
        # With a reranker there is a row `prior-only` beside the configured ones: what the prior finds alone.
        named = [name for name in answers if name in self._prepared.config.baselines or name == PRIOR_ONLY]
        return {name: _keep(self._prepared.ledger.variant(name), answers[name], {}) for name in named}

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
        """Predict with the variant's best checkpoint, rank the targets, and keep the per-query truth in its folder."""
        import ray

        folder, payload = self._prepared.ledger.variant(name), self._prepared.data.payload.path.resolve()
        windows = self._prepared.queries["final"]
        predicted = ray.get(self.predictor.predict.remote(str(folder.best), str(payload), windows))
        answer = ray.get(self._evaluator.evaluate.remote(name, "final", predicted.pop("predictions")))
        return _keep(folder, answer, predicted)

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

    def _add_latencies(self, results: Mapping[str, FinalResult]) -> dict[str, FinalResult]:
        import ray

        num_timed = self._prepared.config.final.latency_queries
        timed = ray.get(self._evaluator.latencies.remote("final", num_timed))
        complete = {}
        for name, result in results.items():
            folder, found = self._prepared.ledger.variant(name), timed[name]
            save_arrays(folder.path, {"latency_ms": found["latency_ms"]})
            metrics, ci = {**result.metrics, **found["metrics"]}, {**result.ci, **found["ci"]}
            complete[name] = replace(result, metrics=metrics, ci=ci)
            _write(folder, complete[name])
        return complete


def _keep(folder: VariantFolder, answer: dict[str, Any], predicted: dict[str, Any]) -> FinalResult:
    """Write final.json and the per-query arrays; return the result."""
    save_arrays(folder.path, answer)
    outcomes = Outcomes(ranks=answer["ranks"], ranks_pool=answer["ranks_pool"], cosine=answer["cosine"])
    metrics = dict(answer["metrics"])
    if "predict_p95_ms" in predicted:
        metrics["predict_p95_ms"] = predicted["predict_p95_ms"]
    result = FinalResult(
        metrics=metrics,
        ci={**intervals(outcomes), **answer["ci"]},
        outcomes=outcomes,
        checkpoint_sha256=predicted.get("sha256"),
        checkpoint_epoch=predicted.get("epoch"),
    )
    _write(folder, result)
    return result


def _write(folder: VariantFolder, result: FinalResult) -> None:
    checkpoint = {"sha256": result.checkpoint_sha256, "epoch": result.checkpoint_epoch}
    write_json(folder.final, {"metrics": result.metrics, "ci": result.ci, "checkpoint": checkpoint})
