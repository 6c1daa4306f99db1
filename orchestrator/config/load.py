"""From an experiment file to a checked configuration; every error is one line with the file and the dotted key."""

from __future__ import annotations

import re
from pathlib import Path

from data.errors import UserError
from evaluation.measures.metrics import register_metrics
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.references import check_references
from orchestrator.config.validation import suggest, validate
from orchestrator.config.yaml_source import load_raw


def load_config(path: Path, overrides: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> ExperimentConfig:
    """Read, merge and check an experiment; UserError with one line `file: dotted.key: expected ..., got ...`.

    `only` keeps the named variants.
    """
    raw = load_raw(path, overrides)
    try:
        config: ExperimentConfig = validate(ExperimentConfig, raw, "")
        _check_variants(config)
        if only:
            config = _keep_only(config, only)
        register_metrics(config.metrics)
        check_references(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def _check_variants(config: ExperimentConfig) -> None:
    for name in config.variants:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise UserError(f"variants.{name}: expected letters, digits, '_' and '-', got another sign; rename it")
    if not config.resolved_variants:
        raise UserError("variants: expected at least one enabled variant, got none; enable one")


def _keep_only(config: ExperimentConfig, only: tuple[str, ...]) -> ExperimentConfig:
    for name in only:
        if name not in config.resolved_variants:
            raise UserError(f"--only {name}: unknown variant; {suggest(name, config.resolved_variants)}")
    kept = {name: config.variants[name] for name in config.variants if name in only}
    return config.model_copy(update={"variants": kept, "stages": None})
