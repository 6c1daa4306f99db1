"""What one section of an experiment says about another: gates about smoke epochs, rules about baselines, stages."""

from __future__ import annotations

from collections.abc import Set

from data.errors import UserError
from evaluation.measures.metrics import COPIED, EXACT, EXCLUDE_CONTEXT, METRICS, NOVEL, retrieval_metrics, split_prefix
from evaluation.measures.rules import Rule, parse_rule
from evaluation.retrieval.baselines import ALL_BASELINES
from models.spec.imported import is_import_path
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.search import check_space
from orchestrator.config.sections import BEST_BASELINE, LEARNED_BASELINES, BudgetConfig
from orchestrator.config.validation import suggest

AT_THE_END = frozenset({"predict_p95_ms", "answer_p95_ms"})
"""Metrics that no smoke evaluation measures."""


def check_references(config: ExperimentConfig) -> None:
    """Raise UserError, `dotted.key: expected ..., got ...`, where two sections do not fit together."""
    variants = config.resolved_variants
    _check_names(config)
    _check_mirror(config.mirror)
    _check_search(config)
    if config.search is None or config.search.budget is None:
        check_epochs(config)
    _check_smoke_gates(config)
    learned = {name for name, variant in variants.items() if variant.kind == "baseline"}
    known_at_end = set(config.baseline_names) | learned
    _check_rules(config.gates.success_if, "gates.success_if", known_at_end)
    _check_rules(config.gates.ready_if, "gates.ready_if", known_at_end)
    reference = config.gates.reference
    if isinstance(reference, str) and reference not in known_at_end | {*LEARNED_BASELINES, BEST_BASELINE}:
        raise UserError(
            f"gates.reference: unknown baseline {reference!r}; {suggest(reference, {*known_at_end, BEST_BASELINE})}"
        )
    for name, variant in variants.items():
        if variant.training.batch_size % variant.training.workers:
            raise UserError(
                f"variants.{name}.training.batch_size: expected a multiple of workers {variant.training.workers}, "
                f"got {variant.training.batch_size}; choose another size"
            )
        if variant.training.val_windows != config.training.val_windows:
            raise UserError(
                f"variants.{name}.training.val_windows: expected the experiment's {config.training.val_windows}, "
                f"got {variant.training.val_windows}; all variants are validated on the same windows"
            )
    _check_stages(config)


def check_epochs(config: ExperimentConfig) -> None:
    """Refuse what would happen after a last epoch; with `search.budget` the data must be known before."""
    most_epochs = max(variant.training.epochs for variant in config.resolved_variants.values())
    for position, epoch in enumerate(config.smoke.epochs):
        if epoch > most_epochs:
            raise UserError(
                f"smoke.epochs[{position}]: expected at most {most_epochs} (training.epochs), got {epoch}; "
                "that epoch never comes: drop it or train longer"
            )
    halving = config.search.halving if config.search is not None else ()
    for trial in config.trials.values() if halving else ():
        if halving[-1] >= trial.variant.training.epochs:
            raise UserError(
                f"search.halving: expected epochs before the last, {trial.variant.training.epochs} of {trial.name}, "
                f"got {halving[-1]}; halve earlier or train longer"
            )


def _check_mirror(address: str | None) -> None:
    scheme, found, rest = (address or "").partition("://")
    bucket = rest.partition("/")[0].partition("?")[0]
    if address == "" or (found and (scheme not in ("s3", "gs") or not bucket)):
        raise UserError(
            f"mirror: expected s3://bucket/prefix, gs://bucket/prefix or a folder, got {address!r}; fix the address"
        )
    if "@" in bucket.removeprefix("anonymous@"):
        raise UserError(
            f"mirror: expected {scheme}://bucket/prefix, got an address with a key in it; give keys in the environment "
            "(AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS)"
        )


def _check_names(config: ExperimentConfig) -> None:
    seeds = config.training_seeds
    for position, seed in enumerate(seeds):
        if seed in seeds[:position]:
            raise UserError(f"seeds[{position}]: expected each seed once, got {seed} again; drop it")
    for name in config.baselines:
        if name not in ALL_BASELINES and not is_import_path(name):
            raise UserError(f"baselines: unknown baseline {name!r}; {suggest(name, ALL_BASELINES)}")
    names = config.baseline_names
    for position, name in enumerate(names):
        if name in names[:position] or (name in ALL_BASELINES and is_import_path(config.baselines[position])):
            raise UserError(f"baselines[{position}]: expected each name once, got {name!r} again; rename the function")
    for name in config.resolved_variants:
        if name in {*ALL_BASELINES, *names}:
            raise UserError(f"variants.{name}: expected another name than a baseline's, got {name!r}; rename it")


def _check_search(config: ExperimentConfig) -> None:
    """Refuse a search that could not be made, and spaces without one."""
    search = config.search
    for name, entry in config.variants.items():
        if "search" in entry and search is None:
            raise UserError(f"variants.{name}.search: expected a section search, got none; add search: {{samples: 4}}")
        if search is not None and name in config.resolved_variants:
            space = config.space_of(name)
            own = "search" in entry
            if not isinstance(space, dict):
                raise UserError(
                    f"variants.{name}.search: expected a mapping, got {space!r:.40}; write {{key: [values]}}"
                )
            check_space(space, f"variants.{name}.search" if own else "search.space")
    if search is None:
        return
    if config.stages is not None:
        raise UserError(f"stages: expected none beside search, got {[*config.stages]}; search first, then leave it out")
    if list(search.halving) != sorted(set(search.halving)):
        raise UserError(f"search.halving: expected rising epochs, got {list(search.halving)}; sort them")
    if search.generation is not None and search.sampler != "optuna":
        raise UserError(
            f"search.generation: expected it beside sampler: optuna, got sampler: {search.sampler}, which draws all "
            "settings at once; leave it out"
        )
    if search.budget is not None:
        _check_budget(config, search.budget)


def _check_budget(config: ExperimentConfig, budget: BudgetConfig) -> None:
    for name, trial in config.trials.items():
        if budget.unit == "seconds" and (workers := trial.variant.training.workers) > 1:
            raise UserError(
                "search.budget.seconds: expected trials of one worker, whose pace a launch can measure, got "
                f"{workers} of {name}; give a budget of flops"
            )
    for name in config.resolved_variants:
        if "training.epochs" in config.space_of(name):
            raise UserError(
                f"variants.{name}: expected no search for training.epochs beside search.budget, got one; the budget "
                "decides how long a variant trains"
            )


def _check_smoke_gates(config: ExperimentConfig) -> None:
    for position, gate in enumerate(config.gates.smoke):
        if any(gate.epoch == earlier.epoch for earlier in config.gates.smoke[:position]):
            raise UserError(
                f"gates.smoke[{position}].epoch: expected one gate an epoch, got a second one at {gate.epoch}; "
                "put its rules into the first one"
            )
        if gate.epoch not in config.smoke.epochs:
            raise UserError(
                f"gates.smoke[{position}].epoch: expected one of smoke.epochs {list(config.smoke.epochs)}, "
                f"got {gate.epoch}; add it to smoke.epochs or move the gate"
            )
        for variant in config.resolved_variants.values():
            if variant.kind == "variant" and variant.training.epochs < gate.epoch:
                raise UserError(
                    f"gates.smoke[{position}].epoch: expected at most {variant.training.epochs} (the epochs of "
                    f"variants.{variant.name}), got {gate.epoch}; that epoch never comes: move the gate or train longer"
                )
        if not gate.continue_if and not gate.prune_unless:
            raise UserError(f"gates.smoke[{position}]: expected rules, got none; add continue_if or prune_unless")
        for key in ("continue_if", "prune_unless"):
            path = f"gates.smoke[{position}].{key}"
            _check_rules(getattr(gate, key), path, set(config.baseline_names), AT_THE_END)


def _check_rules(rules: tuple[str, ...], path: str, baselines: set[str], unmeasured: Set[str] = frozenset()) -> None:
    """Refuse rules that no trial could pass or fail: a metric that is not measured would prune them all."""
    prefixed = [prefix + name for prefix in (NOVEL, EXCLUDE_CONTEXT) for name in retrieval_metrics()]
    prefixed.remove(EXCLUDE_CONTEXT + "cosine")  # the cosine knows no results that could be left out
    measured = [*METRICS, *prefixed, COPIED + "r@5", EXACT + "r@5"]
    legal = [name for name in measured if name not in unmeasured]
    for position, text in enumerate(rules):
        rule: Rule = parse_rule(text)
        if rule.metric not in legal:
            raise UserError(f"{path}[{position}]: unknown metric {rule.metric!r}; {suggest(rule.metric, legal)}")
        share = METRICS[split_prefix(rule.metric)[1]].unit == "share"
        if share and rule.baseline is None and not 0.0 <= rule.factor <= 1.0:
            raise UserError(f"{path}[{position}]: expected a share from 0 to 1, got {rule.factor:g}; 0.35 is 35 %")
        if rule.baseline is not None and rule.baseline not in baselines:
            late = " (a trained baseline is known only at the end)" if rule.baseline in LEARNED_BASELINES else ""
            raise UserError(
                f"{path}[{position}]: unknown baseline {rule.baseline!r}{late}; {suggest(rule.baseline, baselines)}"
            )


def _check_stages(config: ExperimentConfig) -> None:
    if config.stages is None:
        return
    staged = [name for stage in config.stages for name in stage]
    expected = list(config.resolved_variants)
    if sorted(staged) != sorted(expected):
        raise UserError(f"stages: expected each of {expected} in exactly one stage, got {staged}; fix the list")
    # The gate after the first stage, and so after each one, needs them all.
    late = set(expected) - set(config.stages[0])
    for rule in map(parse_rule, config.stage_rules if len(config.stages) > 1 else ()):
        if rule.baseline in late:
            raise UserError(
                f"stages: expected {rule.baseline} in the first stage, since gates.success_if has {rule.text!r}, "
                "got it later; move it there"
            )
