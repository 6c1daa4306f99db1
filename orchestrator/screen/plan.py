"""The resolved plan as text (`--dry-run`): variants, parameters, windows, steps, resources, checks. Trains nothing."""

from __future__ import annotations

from pathlib import Path

from tabulate import tabulate

from data.errors import UserError
from data.preflight.check import Check, table_of
from data.preflight.run import blocking
from data.prepare import PreparedData, Tell, prepare_data
from models.spec.costs import num_parameters, training_flops_per_window
from orchestrator.cluster import start as cluster
from orchestrator.cluster.admission import ClusterResources, admit, memory_gib
from orchestrator.config.budget import counts, with_budget
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.preflight import check_data, check_inputs, check_questions, count_imported
from orchestrator.questions import make_questions
from orchestrator.run.ledger import Ledger
from orchestrator.run.manifest import input_hashes
from orchestrator.run.relaunch import as_launched_before

PACED = "epochs: as many as search.budget.seconds pays for, at the pace that a launch measures before its first trial"


def make_plan(
    config: ExperimentConfig, ledger: Ledger, offered: ClusterResources, tell: Tell
) -> tuple[str, list[Check]]:
    """Return the plan on what a machine or a cluster offers, and its checks; UserError when a variant cannot fit."""
    check_inputs(config)
    data = prepare_data(config.data, Path(config.data.cache_dir), seed=config.seed, tell=tell)
    checks = check_data(config, data)
    count_imported(config, data.payload.dim)
    config = as_launched_before(with_budget(config, data.payload.dim, len(data.splits.train)), ledger)
    admission = admit(config, offered, data.payload.dim, has_mps=cluster.has_mps())
    if not blocking(checks):
        checks += check_questions(config, make_questions(config, data))
    sizes = ", ".join(f"{len(table):,} {name}" for name, table in data.splits.items())
    sections = [
        f"run folder: {ledger.path} ({folder_state(ledger, config, data)})",
        f"data: {data.payload.num_rows:,} chunks, {data.payload.dim}-D, {data.payload.provenance.embedder}, "
        f"from {data.payload.path}; windows: {sizes}",
        f"resources: {admission.device}, {admission.arithmetic}",
        variant_table(config, data),
        *([PACED] if counts(config, "seconds") and not ledger.is_claimed() else []),
        *([f"each under the seeds {', '.join(map(str, config.seeds))}"] if config.seeds else []),
        f"{table_of(checks)}\nat launch: the index's fidelity, the baselines' figures, gates beyond reach",
        rule_lines(config),
    ]
    return "\n\n".join(sections), checks


def folder_state(ledger: Ledger, config: ExperimentConfig, data: PreparedData) -> str:
    """Return what a launch would find in the run folder."""
    if not ledger.is_claimed():
        return "new"
    try:
        ledger.check_same(config.resolved(), config.fingerprint(), input_hashes(config, data))
    except UserError as error:
        return f"a launch refuses it: {str(error).removeprefix(f'{ledger.path}: ')}"
    return "complete: a launch prints its table again" if ledger.is_complete() else "unfinished: a launch continues it"


def variant_table(config: ExperimentConfig, data: PreparedData) -> str:
    """Return one line a variant: its size and what its training costs."""
    rows = []
    for name, variant in config.resolved_variants.items():
        training = variant.training
        steps = len(data.splits.train) // training.batch_size
        flops = training_flops_per_window(variant.spec, data.payload.dim, config.data.context_length)
        total = flops * steps * training.batch_size * training.epochs
        rows.append(
            [
                name,
                variant.model,
                f"{num_parameters(variant.spec, data.payload.dim):,}",
                training.workers,
                training.epochs,
                training.batch_size,
                f"{steps:,} x {training.epochs}",
                f"{total / 1e12:,.1f}",
                f"{memory_gib(variant, data.payload.dim, config.data.context_length):.1f}",
            ]
        )
    headers = ["variant", "model", "parameters", "workers", "epochs", "batch", "steps", "TFLOP", "GiB (est.)"]
    return tabulate(rows, headers=headers, disable_numparse=True)


def rule_lines(config: ExperimentConfig) -> str:
    """Return the gates as text."""
    lines = [f"smoke evaluations: epochs {list(config.smoke.epochs)}, {config.smoke.queries:,} queries"]
    for gate in config.gates.smoke:
        lines += [f"gate, epoch {gate.epoch}: prune unless {rule}" for rule in gate.prune_unless]
        lines += [f"gate, epoch {gate.epoch}: {rule}, else {config.gates.on_marginal}" for rule in gate.continue_if]
    lines += [f"final, REJECT unless {rule}" for rule in config.gates.success_if]
    lines += [f"final, PRODUCTION READY only if {rule}" for rule in config.gates.ready_if]
    return "\n".join(lines)
