"""The preflight as the launcher sees it: run every check, show them, stop on a failed one that is not waived."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from data.preflight import Check, blocking, run_preflight
from data.prepare import PreparedData
from orchestrator.config import ExperimentConfig


class PreflightError(ValueError):
    """A check failed and is not waived; `table` shows them all."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


def run_checks(config: ExperimentConfig, data: PreparedData) -> list[dict[str, Any]]:
    """Return every check as it goes into preflight.json; PreflightError when one stops the launch."""
    check_sizes(config, data)
    checks = run_preflight(data.payload, data.splits, seed=config.seed, waive=config.preflight.waive)
    stopping = blocking(checks)
    if stopping:
        raise PreflightError(stopping[0].line(), check_table(checks))
    return [{**asdict(check), "verdict": verdict(check)} for check in checks]


def check_sizes(config: ExperimentConfig, data: PreparedData) -> None:
    """Refuse training data of which not one batch could be made; ValueError names the key to change."""
    for name, variant in config.resolved_variants.items():
        if variant.training.batch_size > len(data.splits.train):
            raise ValueError(
                f"variants.{name}.training.batch_size: expected at most the {len(data.splits.train)} training windows, "
                f"got {variant.training.batch_size}; lower training.batch_size"
            )


def verdict(check: Check) -> str:
    """Return passed, FAILED, waived or reported."""
    if check.limit is None:
        return "reported"
    return "passed" if check.passed else "waived" if check.waived else "FAILED"


def check_table(checks: list[Check]) -> str:
    """Return the checks as a short table."""
    rows = [
        [
            check.name,
            f"{check.value:.4g}",
            "" if check.limit is None else f"{check.relation} {check.limit:g}",
            verdict(check),
        ]
        for check in checks
    ]
    return tabulate(rows, headers=["check", "value", "limit", "verdict"], disable_numparse=True)
