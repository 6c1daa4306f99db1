"""The final evaluation, when nothing trains any more: the survivors' best checkpoints and the baselines, one index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.measures.rules import Metrics, RuleCheck, check_rule, parse_rule
from evaluation.results import save_arrays
from evaluation.retrieval.baselines import PRIOR_ONLY
from evaluation.statistics.outcomes import Outcomes, Queries
from evaluation.statistics.resampling import intervals
from orchestrator.config.experiment import ExperimentConfig, Variant
from orchestrator.run.ledger import Ledger, TrialEnd, VariantFolder, write_json

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


class PredictorProcess:
    """The process that predicts with the survivors' checkpoints. It alone imports torch: the driver needs none."""

    def __init__(self) -> None:
        from evaluation.service.predict import Predictor

        self._predictor = Predictor()

    def predict(self, checkpoint: str, payload: str, windows: NDArray[np.int32]) -> dict[str, Any]:
        """Return predictions (Q, D) of windows (Q, L+1), and what the checkpoint says of itself."""
        return self._predictor.predict(checkpoint, payload, windows, latency_queries=PREDICT_LATENCY_QUERIES)


def evaluate_baselines(ledger: Ledger, config: ExperimentConfig, evaluator: Any) -> dict[str, FinalResult]:
    """Evaluate the untrained baselines on the final queries."""
    import ray

    answers = ray.get(evaluator.baselines.remote("final"))
    # With a reranker there is a row `prior-only` beside the configured ones: what the prior finds without any model.
    named = [name for name in answers if name in config.baselines or name == PRIOR_ONLY]
    return {name: _keep(ledger.variant(name), answers[name], {}) for name in named}


def evaluate_survivor(
    ledger: Ledger,
    name: str,
    windows: NDArray[np.int32],
    *,
    payload_path: Path,
    predictor: Any,
    evaluator: Any,
) -> FinalResult:
    """Predict with the variant's best checkpoint, rank the targets, and keep the per-query truth in its folder."""
    import ray

    folder = ledger.variant(name)
    predicted = ray.get(predictor.predict.remote(str(folder.best), str(payload_path), windows))
    answer = ray.get(evaluator.evaluate.remote(name, "final", predicted.pop("predictions")))
    return _keep(folder, answer, predicted)


def add_latencies(
    ledger: Ledger, config: ExperimentConfig, results: Mapping[str, FinalResult], evaluator: Any
) -> dict[str, FinalResult]:
    """Time the search of all results in turns, now that nothing else runs, and keep the figures with the others."""
    import ray

    timed = ray.get(evaluator.latencies.remote("final", config.final.latency_queries))
    complete = {}
    for name, result in results.items():
        found = timed[name]
        save_arrays(ledger.variant(name).path, {"latency_ms": found["latency_ms"]})
        metrics, ci = {**result.metrics, **found["metrics"]}, {**result.ci, **found["ci"]}
        complete[name] = replace(result, metrics=metrics, ci=ci)
        _write(ledger.variant(name), complete[name])
    return complete


def _keep(folder: VariantFolder, answer: dict[str, Any], predicted: dict[str, Any]) -> FinalResult:
    """Write final.json and the per-query arrays; return the result."""
    save_arrays(folder.path, answer)
    outcomes = Outcomes(ranks=answer["ranks"], ranks_pool=answer["ranks_pool"], cosine=answer["cosine"])
    metrics = dict(answer["metrics"])
    if "predict_p95_ms" in predicted:
        metrics["predict_p95_ms"] = predicted["predict_p95_ms"]
    ci = {**intervals(outcomes, Queries.independent(len(outcomes))), **answer["ci"]}
    result = FinalResult(
        metrics=metrics,
        ci=ci,
        outcomes=outcomes,
        checkpoint_sha256=predicted.get("sha256"),
        checkpoint_epoch=predicted.get("epoch"),
    )
    _write(folder, result)
    return result


def _write(folder: VariantFolder, result: FinalResult) -> None:
    checkpoint = {"sha256": result.checkpoint_sha256, "epoch": result.checkpoint_epoch}
    write_json(folder.final, {"metrics": result.metrics, "ci": result.ci, "checkpoint": checkpoint})


def check_final_rules(rules: tuple[str, ...], metrics: Metrics, baselines: dict[str, Metrics]) -> tuple[RuleCheck, ...]:
    """Hold the final rules against one row's metrics."""
    return tuple(check_rule(parse_rule(rule), metrics, baselines) for rule in rules)


def trained_row(
    variant: Variant, end: TrialEnd, records: list[dict[str, Any]], params: int, result: FinalResult | None
) -> dict[str, Any]:
    """Return the row of results.json of a trained variant, less gates and verdict.

    A trial without final figures shows those of its last smoke evaluation, and says so in `evaluated_on`.
    """
    kept = [record for record in records if record["epoch"] <= end.epoch]
    last_smoke: dict[str, Any] = next((record["smoke"] for record in reversed(kept) if record.get("smoke")), {})
    figures = result.metrics if result is not None else last_smoke
    return {
        "variant": variant.name,
        "kind": variant.kind,
        "model": variant.model,
        "status": end.status,
        "reason": end.reason,
        "epochs": end.epoch,
        "best_epoch": result.checkpoint_epoch if result else None,
        "params": params,
        **figures,
        "evaluated_on": "final" if result is not None else "smoke" if last_smoke else None,
        "train_s": sum(sum(r["seconds"].get(p, 0.0) for p in ("data", "step")) for r in kept),
        "windows_seen": kept[-1]["windows_seen"] if kept else 0,
        "ci": result.ci if result is not None else {},
        "checkpoint_sha256": result.checkpoint_sha256 if result else None,
    }


def baseline_row(name: str, result: FinalResult) -> dict[str, Any]:
    """Return the row of an untrained baseline."""
    return {
        "variant": name,
        "kind": "baseline",
        "model": None,
        "status": "FINISHED",
        "reason": "untrained",
        "epochs": 0,
        "params": 0,
        **result.metrics,
        "evaluated_on": "final",
        "train_s": 0.0,
        "windows_seen": 0,
        "ci": result.ci,
    }
