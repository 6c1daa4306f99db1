"""The preflight as the launcher sees it: run every check, show them, stop on a failed one that is not waived.

What needs no index is checked before Ray starts, an index file included (`check_data`). Once the evaluator has its
index, `check_retrieval` tells how much of an exact search the index finds. It also tells how far the gates lie from
what can be reached. No trial has begun by then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import MissingFileError, UserError
from data.preflight.check import Check, judge, report, table_of
from data.preflight.provenance import provenance_of_index, provenance_of_windows
from data.preflight.run import blocking, check_alignment, run_preflight, stamp_waived
from data.prepare import PreparedData, check_files
from evaluation.config import INDEX_CHECKS
from evaluation.measures.metrics import split_prefix
from evaluation.measures.rules import Rule, parse_rule
from evaluation.retrieval.baselines import load_imported
from evaluation.service.index_check import check_index_file
from evaluation.service.process import in_own_process
from evaluation.statistics.significance import FEW_ARTICLES, FEW_QUERIES
from models.spec.imported import ImportedSpec, is_import_path
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.questions import Questions

SHOWN_METRICS = ("novel.r@5", "novel.contain@50")
MORE_ARTICLES = "intervals will be wide; give more articles"
QUESTION_CHECKS = ("novel_queries", "many_novel_queries", "many_test_articles")
MIN_FIDELITY = {"fidelity": 0.9, "fidelity_disturbed": 0.8}
"""Least shares of the exact top 50 that an index must find, for rows of the corpus and for rows turned away from it,
which stand for predictions. Contain@50 is about that share of what a flat index would show, so at 0.8 a fifth of it is
the index's doing. Measured on 26,998 real chunks: ivf_flat at nprobe 64 has 0.96 and 0.93, coarse product codes 0.93
and 0.79."""


class PreflightError(UserError):
    """A check failed and is not waived; `table` shows them all."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


def check_inputs(config: ExperimentConfig) -> None:
    """Raise UserError when a file or a package that the experiment names is missing; one line names all files."""
    if config.search is not None and config.search.sampler == "optuna" and find_spec("optuna") is None:
        raise UserError(
            "search.sampler: expected the package optuna, got an environment without it; "
            "pip install -e '.[optuna]' or leave the key out"
        )
    index = config.index.file
    others = {"index.file": index} if index is not None else {}
    check_files(config.data, others)
    if index is not None and not Path(index).is_file():
        raise MissingFileError(
            f"index.file: expected an existing file, got none at {index}; correct the path, or leave it out "
            "(index.file: null) and an index is built"
        )


def count_imported(config: ExperimentConfig, dim: int) -> None:
    """Check the models that variants name by import path, in a process that may import torch, and count their costs."""
    specs = {
        name: variant.spec
        for name, variant in config.resolved_variants.items()
        if isinstance(variant.spec, ImportedSpec)
    }
    if specs:
        found = in_own_process("models.training.imported", "count_models", specs, dim, config.data.context_length)
        for name, counts in found.items():
            specs[name].count(dim, counts)
    for path in filter(is_import_path, config.baselines):
        load_imported(path)


def check_data(config: ExperimentConfig, data: PreparedData) -> list[Check]:
    """Return the checks of data, windows and index file."""
    check_sizes(config, data)
    waive = config.preflight.waive
    parts = provenance_of_windows(data.payload)
    if config.index.file is not None:
        parts |= provenance_of_index(config.index.file)
    checks = run_preflight(
        data.payload, data.splits, others=parts, seed=config.seed, waive=waive, later=(*QUESTION_CHECKS, *INDEX_CHECKS)
    )
    checks += check_alignment(data.payload)
    if config.index.file is not None:
        checks += check_index_file(config.index, data.payload.path, waive)
    return checks


def check_questions(config: ExperimentConfig, questions: Questions) -> list[Check]:
    """Return the checks of the final queries: are there novel ones, and enough of them in enough articles?"""
    final = questions.final
    num_novel, num_articles = int(final.novel.sum()), len(np.unique(final.article[final.novel]))
    below = (
        f"of {len(final):,} test targets, those without a training chunk at cosine {config.evaluation.novel_below:g}"
    )
    checks = [
        judge(
            "novel_queries",
            num_novel,
            ">=",
            1,
            "every test target has a near copy in training, so nothing can be told about prediction; drop repeats",
            detail=below,
        ),
        judge("many_novel_queries", num_novel, ">=", FEW_QUERIES, MORE_ARTICLES, detail=below, warning=True),
        judge(
            "many_test_articles",
            num_articles,
            ">=",
            FEW_ARTICLES,
            MORE_ARTICLES,
            detail="test articles with a novel query: the independent units of every interval",
            warning=True,
        ),
    ]
    return stamp_waived(checks, config.preflight.waive)


def check_retrieval(
    config: ExperimentConfig,
    index: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float]],
    oracle: Mapping[str, float],
) -> list[Check]:
    """Return the checks that need the index.

    Args:
        config: The experiment.
        index: What the index says of itself, `fidelity` and `fidelity_disturbed` among it.
        baselines: The untrained baselines' metrics on the smoke queries, by name.
        oracle: The metrics of the oracle of the neighbourhood on them, see evaluation.retrieval.oracle.
    """
    checks = [
        judge(
            f"index_{name}",
            index.get(name, math.nan),
            ">=",
            limit,
            "raise index.nprobe, or choose another kind (index.kind: auto measures them)",
            detail=f"share of the exact top 50 that {_short(index)} finds{where}",
        )
        for (name, limit), where in zip(MIN_FIDELITY.items(), ("", " for disturbed rows"), strict=True)
    ]
    checks += [
        report(f"{name}.{metric}", metrics.get(metric, math.nan), "on the smoke queries")
        for name, metrics in {**baselines, "oracle": oracle}.items()
        for metric in SHOWN_METRICS
    ]
    return stamp_waived(checks, config.preflight.waive) + check_gates(absolute_rules(config), oracle)


def check_gates(rules: Iterable[Rule], oracle: Mapping[str, float]) -> list[Check]:
    """Return one check a metric: is the highest absolute limit on it within what the oracle reaches?

    The oracle itself is far above what a model reaches, so a limit above the oracle's figure is far above that. It is
    a warning and stops nothing: the oracle is no strict bound.
    """
    highest: dict[str, Rule] = {}
    for rule in rules:
        if rule.metric not in highest or rule.factor > highest[rule.metric].factor:
            highest[rule.metric] = rule
    return [
        judge(
            f"gate.{metric}",
            rule.factor,
            "<=",
            oracle.get(metric, math.nan),
            "few models can pass; lower the gate, or make it relative to a baseline",
            detail=f"{rule.text}; limit: what an oracle reaches that knows the chunks before and after",
            warning=True,
        )
        for metric, rule in highest.items()
    ]


def absolute_rules(config: ExperimentConfig) -> list[Rule]:
    """Return the rules that ask for at least a number of targets found, whatever the baselines find."""
    gates = config.gates
    texts = [text for gate in gates.smoke for text in (*gate.continue_if, *gate.prune_unless)]
    rules = [parse_rule(text) for text in (*texts, *gates.success_if, *gates.ready_if)]
    return [
        rule
        for rule in rules
        if rule.baseline is None
        and rule.op == ">="
        and split_prefix(rule.metric)[1].startswith(("r@", "contain@", "mrr@"))
    ]


def stop_if_blocked(checks: Sequence[Check]) -> None:
    """Raise PreflightError when a check stops the launch."""
    stopping = blocking(checks)
    if stopping:
        raise PreflightError(stopping[0].line(), table_of(checks))


def records(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Return every check as it goes into preflight.json."""
    return [{**asdict(check), "verdict": check.verdict} for check in checks]


def check_sizes(config: ExperimentConfig, data: PreparedData) -> None:
    """Refuse training data of which not one batch could be made; UserError names the key to change."""
    for name, variant in config.resolved_variants.items():
        if variant.training.batch_size > len(data.splits.train):
            raise UserError(
                f"variants.{name}.training.batch_size: expected at most the {len(data.splits.train)} training windows, "
                f"got {variant.training.batch_size}; lower training.batch_size"
            )


def _short(index: Mapping[str, Any]) -> str:
    """Return kind and breadth, e.g. `ivf_flat at nprobe 64`."""
    breadth = next((f" at {name} {index[name]}" for name in ("nprobe", "hnsw_ef") if name in index), "")
    return f"{index['kind']}{breadth}"
