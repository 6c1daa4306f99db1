"""The rows of results.json: a trained variant's, an untrained baseline's, and the final rules held against one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.ending import Ending
from evaluation.measures.rules import Metrics, RuleCheck, check_rule, parse_rule
from orchestrator.config.experiment import Variant
from orchestrator.final.result import FinalResult
from orchestrator.final.seeds import VariantEnd


def check_final_rules(
    rules: tuple[str, ...], metrics: Metrics, baselines: Mapping[str, Metrics]
) -> tuple[RuleCheck, ...]:
    """Hold the final rules against one row's metrics."""
    return tuple(check_rule(parse_rule(rule), metrics, baselines) for rule in rules)


def trained_row(
    variant: Variant,
    found: VariantEnd,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    params: int,
    result: FinalResult | None,
) -> dict[str, Any]:
    """Return the row of results.json of a trained variant, less gates and verdict; `records` are those of its trials.

    A row without final figures shows those of the last smoke evaluation, and says so in `evaluated_on`.
    """
    end = found.end
    trained = {
        name: [record for record in lines if record["epoch"] <= found.trials[name].epoch]
        for name, lines in records.items()
    }
    kept = trained[found.trial]
    last_smoke: dict[str, Any] = next((record["smoke"] for record in reversed(kept) if record.get("smoke")), {})
    figures = result.metrics if result is not None else last_smoke
    best_epoch = result.checkpoint_epoch if result else None
    best = next((record for record in kept if record["epoch"] == best_epoch), {})
    return {
        "variant": variant.name,
        "kind": variant.kind,
        "model": variant.model,
        "trial": found.trial,
        "status": end.ending.name,
        "reason": end.reason,
        "epochs": end.epoch,
        "best_epoch": best_epoch,
        "val_share": best.get("val_share"),
        "params": params,
        **figures,
        "evaluated_on": "final" if result is not None else "smoke" if last_smoke else None,
        "train_s": sum(r["seconds"].get(p, 0.0) for lines in trained.values() for r in lines for p in ("data", "step")),
        "windows_seen": sum(lines[-1]["windows_seen"] for lines in trained.values() if lines),
        "ci": result.ci if result is not None else {},
        "checkpoint_sha256": result.checkpoint_sha256 if result else None,
    }


def baseline_row(name: str, result: FinalResult) -> dict[str, Any]:
    """Return the row of an untrained baseline."""
    return {
        "variant": name,
        "kind": "baseline",
        "model": None,
        "status": Ending.FINISHED.name,
        "reason": "not trained",
        "chosen": dict(result.chosen),
        "epochs": 0,
        "params": 0,
        **result.metrics,
        "evaluated_on": "final",
        "train_s": 0.0,
        "windows_seen": 0,
        "ci": result.ci,
    }
