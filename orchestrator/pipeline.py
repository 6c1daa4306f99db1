"""The stages of a run in order; read this first.

configuration -> data -> preflight -> run folder -> Ray -> admission -> index and baselines -> trials -> final
evaluation -> decision -> table -> best/. One call a stage; what a stage does lies in the file it is called from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data.prepare import PreparedData, prepare_data
from data.stream import build_stream
from data.windows import WindowProvenance, save_windows
from models.variants import flops_per_window, num_parameters
from orchestrator import cluster, final, outcome
from orchestrator.admission import Admission, admit, longest_first
from orchestrator.checks import run_checks
from orchestrator.config import ExperimentConfig
from orchestrator.gates import Decision, StopRules
from orchestrator.ledger import SURVIVED, UNFINISHED, Ledger, TrialEnd, write_json
from orchestrator.manifest import manifest
from orchestrator.monitor import Monitor
from orchestrator.queries import final_queries, smoke_queries
from orchestrator.scheduler import GateScheduler
from orchestrator.timeline import Timeline, earlier_launches
from orchestrator.trial import TrialSetup
from orchestrator.tuning import Bookkeeper, run_trials


@dataclass(slots=True)
class Run:
    """What the stages share."""

    config: ExperimentConfig
    ledger: Ledger
    timeline: Timeline
    data: PreparedData
    stream: TextIO
    checks: list[dict[str, Any]]
    admission: Admission | None = None
    evaluator: Any = None
    smoke_baselines: dict[str, dict[str, float]] | None = None
    index: dict[str, Any] | None = None

    def say(self, text: str = "") -> None:
        """Print one line for the person at the terminal."""
        print(text, file=self.stream, flush=True)


def prepare(config: ExperimentConfig, ledger: Ledger, stream: TextIO, *, fresh: bool) -> Run:
    """Data, preflight and run folder; ValueError when a check fails or the folder holds another run."""
    timeline = Timeline()
    timeline.phase("data")
    data = prepare_data(config.data, Path(config.data.cache_dir), seed=config.seed)
    timeline.phase("preflight")
    checks = run_checks(config, data)
    if fresh:
        ledger.remove()
    fingerprint, data_sha256 = config.fingerprint(), data.payload.provenance.sha256
    ledger.check_same(config.resolved(), fingerprint, data_sha256)
    timeline.earlier = [*earlier_launches(ledger.timeline)]
    ledger.open(config.resolved(), manifest(config, data_sha256))
    write_json(ledger.preflight, checks)
    save_windows(
        ledger.path / "windows",
        data.splits,
        WindowProvenance(
            payload_sha256=data_sha256,
            context_length=config.data.context_length,
            min_article_chunks=config.data.min_article_chunks,
            seed=config.seed,
        ),
    )
    return Run(config=config, ledger=ledger, timeline=timeline, data=data, stream=stream, checks=checks)


def execute(run: Run, *, address: str | None, verbose: bool) -> dict[str, Any]:
    """Train, prune, evaluate and decide; return the content of results.json. Ray lives as long as this function."""
    import ray

    run.timeline.phase("ray")
    started = cluster.start(address, verbose)
    try:
        if started.dashboard:
            run.say(f"dashboard {started.dashboard}  (its token: {started.token_path})")
        run.admission = admit(run.config, started.resources, run.data.payload.dim, has_mps=cluster.has_mps())
        run.say(f"resources {run.admission.device}; {run.admission.arithmetic}")
        run.timeline.phase("index")
        run.evaluator = start_evaluator(run)
        stream = stream_orders(run)
        measure_baselines(run)
        run.timeline.phase("training")
        predictor = train(run, stream)
        run.timeline.facts["placement_groups_left"] = cluster.num_placement_groups()
        run.timeline.phase("final")
        results = evaluate(run, predictor)
    finally:
        ray.shutdown()
    return results


def start_evaluator(run: Run) -> Any:
    """Start the evaluation actor, which builds the run's one index in its own process; returns at once."""
    import ray

    from evaluation.actor import Evaluator

    config, splits = run.config, run.data.splits
    queries = {
        "smoke": smoke_queries(splits, config.smoke.queries, config.seed).rows,
        "final": final_queries(splits, config.final.queries, config.seed).rows,
    }
    return (
        ray.remote(Evaluator)
        .options(name=f"{config.name}/evaluator", num_cpus=0)
        .remote(str(run.data.payload.path.resolve()), config.index, queries)
    )


def measure_baselines(run: Run) -> None:
    """Wait for the index and measure the baselines on the smoke queries: relative gates need their figures."""
    import ray

    config = run.config
    run.index = ray.get(run.evaluator.ready.remote())
    assert run.index is not None and not run.index["torch_imported"], "FAISS and torch must not share a process"
    answers = ray.get(run.evaluator.baselines.remote("smoke", latency_queries=config.smoke.latency_queries))
    run.smoke_baselines = {name: answers[name]["metrics"] for name in config.baselines}
    r_at_5 = ", ".join(f"{name} {100 * m['r@5']:.1f} %" for name, m in run.smoke_baselines.items())
    run.say(f"index     {run.index['index']['kind']}, {run.data.payload.num_rows:,} chunks; baselines' R@5: {r_at_5}")


def stream_orders(run: Run) -> Any:
    """Put the order of every epoch into the object store, for all trials."""
    most_epochs = max(variant.training.epochs for variant in run.config.resolved_variants.values())
    return build_stream(len(run.data.splits.train), seed=run.config.seed, epochs=range(1, most_epochs + 1))


def train(run: Run, stream: Any) -> Any:
    """Run every unfinished trial, stage by stage; return the predictor actor, started beside the last trial."""
    import ray

    config, ledger = run.config, run.ledger
    variants = config.resolved_variants
    rules = {name: config.stop_rules(variant, run.smoke_baselines or {}) for name, variant in variants.items()}
    predictor: list[Any] = []

    def start_predictor() -> None:
        actor = ray.remote(final.PredictorProcess)
        predictor.append(actor.options(name=f"{config.name}/predictor", num_cpus=0).remote())

    with Monitor(run.stream, {name: variant.training.epochs for name, variant in variants.items()}) as monitor:
        scheduler = GateScheduler(ledger, rules, monitor)
        scheduler.replay()
        pending = _pending(run, monitor)
        costs = {
            name: flops_per_window(variant.spec, run.data.payload.dim, config.data.context_length)
            * variant.training.epochs
            for name, variant in variants.items()
        }
        order = [name for name in longest_first(config, costs) if name in pending]
        if order:
            assert run.admission is not None
            run_trials(
                order,
                {name: _setup(run, name, rules[name]) for name in order},
                stream,
                slots=run.admission.slots,
                scheduler=scheduler,
                bookkeeper=Bookkeeper(
                    ledger,
                    run.timeline,
                    monitor,
                    num_trials=len(order),
                    on_last=start_predictor,
                    silence_warning_s=config.resources.silence_warning_s,
                ),
                storage=(ledger.path / "ray").resolve(),
            )
    if not predictor:
        start_predictor()
    return predictor[0]


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


def evaluate(run: Run, predictor: Any) -> dict[str, Any]:
    """Evaluate survivors and baselines on the final queries, decide, and write results, tables and best/."""
    config, ledger = run.config, run.ledger
    windows = final_queries(run.data.splits, config.final.queries, config.seed).rows
    untrained = final.evaluate_baselines(ledger, config, run.evaluator)
    trained: dict[str, final.FinalResult] = {}
    ends: dict[str, TrialEnd] = {}
    for name in config.resolved_variants:
        end = ledger.end_of(name) or TrialEnd(status="FAILED", epoch=0, reason="no verdict was recorded")
        ends[name] = end
        if end.status in SURVIVED and ledger.variant(name).best.is_file():
            trained[name] = final.evaluate_survivor(
                ledger,
                config,
                name,
                windows,
                payload_path=run.data.payload.path.resolve(),
                predictor=predictor,
                evaluator=run.evaluator,
            )
    params = {name: num_parameters(v.spec, run.data.payload.dim) for name, v in config.resolved_variants.items()}
    return outcome.conclude(run_facts(run), ends, trained, untrained, params)


def run_facts(run: Run) -> outcome.Facts:
    """Return what the decision and the tables need of the run."""
    assert run.admission is not None and run.index is not None
    run.timeline.facts["index_builds"] = run.index["index_builds"]
    run.timeline.facts["index_build_s"] = run.index["build_s"]
    return outcome.Facts(
        config=run.config,
        ledger=run.ledger,
        timeline=run.timeline,
        slots=run.admission.slots,
        device=run.admission.device,
        index=run.index["index"],
        num_rows=run.data.payload.num_rows,
        dim=run.data.payload.dim,
        embedder=run.data.payload.provenance.embedder,
        payload_path=run.data.payload.path,
        waived=[check["name"] for check in run.checks if check["waived"]],
    )


def note_interruption(run: Run) -> None:
    """Record which trials Ctrl-C cut short, and the time spent; a relaunch goes on with them."""
    write_json(run.ledger.timeline, run.timeline.summary(run.admission.slots if run.admission else 1))
    for name in run.config.resolved_variants:
        epochs = run.ledger.variant(name).history()
        if epochs and run.ledger.end_of(name) is None:
            run.ledger.record(
                name,
                Decision(
                    epoch=epochs[-1].epoch,
                    rule="the trial runs to its end",
                    value=None,
                    limit=None,
                    passed=False,
                    action="interrupt",
                    reason="interrupted",
                ),
            )
