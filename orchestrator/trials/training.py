"""The training phase: every unfinished trial, stage by stage, and what each trial is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.measures.rules import Metrics
from models.spec.costs import flops_per_window
from orchestrator.cluster.admission import longest_first
from orchestrator.final import evaluate as final
from orchestrator.gates import Decision, StopRules
from orchestrator.run.ledger import SURVIVED, UNFINISHED
from orchestrator.screen.monitor import Monitor
from orchestrator.services import evaluate_baselines, evaluate_survivor, start_predictor
from orchestrator.state import Run
from orchestrator.trials.scheduler import GateScheduler
from orchestrator.trials.setup import TrialSetup
from orchestrator.trials.tracking import tracking_callbacks
from orchestrator.trials.tuning import Bookkeeper, run_trials

STAGE_METRICS = ("r@5", "contain@50")


def train(run: Run, stream: Any) -> None:
    """Run every unfinished trial; a later stage only after an earlier one has shown that it can retrieve."""
    config, ledger = run.config, run.ledger
    variants = config.resolved_variants
    rules = {name: config.stop_rules(variant, run.smoke_baselines or {}) for name, variant in variants.items()}
    stages: Sequence[Sequence[str]] = config.stages or [list(variants)]
    with Monitor(run.stream, {name: variant.training.epochs for name, variant in variants.items()}) as monitor:
        scheduler = GateScheduler(ledger, rules, monitor)
        scheduler.replay()
        pending = _pending(run, monitor)
        for number, stage in enumerate(stages, start=1):
            order = [name for name in by_cost(run) if name in stage and name in pending]
            if order:
                _run_stage(run, stream, order, number, rules=rules, scheduler=scheduler, monitor=monitor)
            if number < len(stages) and not stage_passed(run, stage):
                _skip_later(run, [name for later in stages[number:] for name in later], number, monitor)
                break


def _run_stage(
    run: Run,
    stream: Any,
    order: Sequence[str],
    number: int,
    *,
    rules: dict[str, StopRules],
    scheduler: GateScheduler,
    monitor: Monitor,
) -> None:
    assert run.admission is not None
    bookkeeper = Bookkeeper(
        run.ledger,
        run.timeline,
        monitor,
        num_trials=len(order),
        on_last=lambda: start_predictor(run),
        check_interrupt=run.interrupt.check,
        silence_warning_s=run.config.resources.silence_warning_s,
    )
    run_trials(
        order,
        {name: _setup(run, name, rules[name]) for name in order},
        stream,
        slots=run.admission.slots,
        scheduler=scheduler,
        bookkeeper=bookkeeper,
        storage=(run.ledger.path / "ray" / f"stage{number}").resolve(),
        trackers=tracking_callbacks(run.config.tracking, run.config.name),
    )


def by_cost(run: Run) -> list[str]:
    """Return the variants, the most expensive training first."""
    dim, length = run.data.payload.dim, run.config.data.context_length
    costs = {
        name: flops_per_window(variant.spec, dim, length) * variant.training.epochs
        for name, variant in run.config.resolved_variants.items()
    }
    return longest_first(run.config, costs)


def stage_passed(run: Run, stage: Sequence[str]) -> bool:
    """Return whether a survivor of the stage passes the final gates on R@5 and Contain@50; without such, any does."""
    config = run.config
    references: dict[str, Metrics] = {name: result.metrics for name, result in evaluate_baselines(run).items()}
    decisive = tuple(rule for rule in config.gates.success_if if rule.split()[0] in STAGE_METRICS)
    for name in stage:
        end = run.ledger.end_of(name)
        if end is None or end.status not in SURVIVED or config.resolved_variants[name].kind != "variant":
            continue
        result = evaluate_survivor(run, name)
        if all(check.passed for check in final.check_final_rules(decisive, result.metrics, references)):
            return True
    return False


def _skip_later(run: Run, names: Sequence[str], number: int, monitor: Monitor) -> None:
    """Record for every variant of the later stages that stage `number` kept it from starting."""
    for name in names:
        if run.ledger.end_of(name) is not None:
            continue
        decision = Decision(
            epoch=0,
            rule=f"stage {number} passes its final gates on {' and '.join(STAGE_METRICS)}",
            value=None,
            limit=None,
            passed=False,
            action="prune",
            reason=f"not started: no survivor of stage {number} passed the final gates",
        )
        run.ledger.record(name, decision)
        monitor.decided(name, decision)


def _pending(run: Run, monitor: Monitor) -> set[str]:
    """Return the variants that still have to train; show what is kept of the others."""
    pending = set()
    for name in run.config.resolved_variants:
        end = run.ledger.end_of(name)
        unfinished = end is None or end.status in UNFINISHED
        monitor.restored(name, run.ledger.variant(name).records(), None if unfinished else end)
        if unfinished:
            pending.add(name)
    return pending


def _setup(run: Run, name: str, rules: StopRules) -> TrialSetup:
    config, variant = run.config, run.config.resolved_variants[name]
    assert run.admission is not None
    return TrialSetup(
        variant=variant,
        folder=run.ledger.variant(name).path.resolve(),
        payload_path=run.data.payload.path.resolve(),
        windows_path=(run.ledger.path / "windows").resolve(),
        seed=config.seed,
        smoke_epochs=config.smoke.epochs,
        num_smoke_queries=config.smoke.queries,
        smoke_latency_queries=config.smoke.latency_queries,
        latency_limits_ms=latency_limits_ms(rules),
        rules=rules,
        selection=config.selection(variant),
        evaluator=run.evaluator,
        device=run.admission.device,
        cpus_per_worker=run.admission.cpus_per_worker,
        gpus_per_worker=run.admission.gpus_per_worker,
        provenance={
            "experiment": config.name,
            "variant": name,
            "config_sha256": config.fingerprint(),
            "payload_sha256": run.data.payload.provenance.sha256,
            "embedder": run.data.payload.provenance.embedder,
        },
    )


def latency_limits_ms(rules: StopRules) -> dict[int, float]:
    """Return the tightest p95 limit of each gate epoch: a latency above it is measured once more."""
    limits: dict[int, float] = {}
    for gate in rules.gates:
        found = [
            rule.limit(rules.baselines) for rule in (*gate.continue_if, *gate.prune_unless) if rule.metric == "p95_ms"
        ]
        if found:
            limits[gate.epoch] = min(found)
    return limits
