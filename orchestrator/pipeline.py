"""The stages of a run in order; read this first.

configuration -> data -> preflight -> run folder -> Ray -> admission -> index and baselines -> preflight of both ->
trials -> final evaluation -> decision -> table -> best/. One call a stage; what a stage does lies in the file it is
called from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

from data.prepare import prepare_data
from data.windows.table import WindowProvenance, save_windows
from models.spec.costs import num_parameters
from orchestrator import services
from orchestrator.cluster import start as cluster
from orchestrator.cluster.admission import ClusterResources, admit
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.final import evaluate as final
from orchestrator.final import outcome
from orchestrator.gates import Decision
from orchestrator.preflight import check_data, check_inputs, check_retrieval, records, stop_if_blocked
from orchestrator.run.ledger import SURVIVED, Ledger, TrialEnd, write_json
from orchestrator.run.manifest import input_hashes, manifest
from orchestrator.run.timeline import Timeline, earlier_launches
from orchestrator.state import Run
from orchestrator.trials.tracking import check_tracking
from orchestrator.trials.training import train


def prepare(
    config: ExperimentConfig, ledger: Ledger, stream: TextIO, *, fresh: bool, offered: ClusterResources | None = None
) -> Run:
    """Data, preflight and run folder; UserError when a check fails or the folder holds another run.

    `offered`: what this machine offers, to refuse a variant that cannot fit before anything is written; None when the
    cluster is elsewhere, and its resources are known only once it is joined.
    """
    check_tracking(config.tracking)
    timeline = Timeline()
    timeline.phase("data")
    check_inputs(config)
    data = prepare_data(config.data, Path(config.data.cache_dir), seed=config.seed)
    timeline.phase("preflight")
    checks = check_data(config, data)
    stop_if_blocked(checks)
    if offered is not None:
        admit(config, offered, data.payload.dim, has_mps=cluster.has_mps())
    if fresh:
        ledger.remove()
    hashes = input_hashes(config, data)
    ledger.check_same(config.resolved(), config.fingerprint(), hashes)
    timeline.earlier = [*earlier_launches(ledger.timeline)]
    ledger.open(config.resolved(), manifest(config, hashes))
    write_json(ledger.preflight, records(checks))
    save_windows(
        ledger.path / "windows",
        data.splits,
        WindowProvenance(
            payload_sha256=data.payload.provenance.sha256,
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
        run.evaluator = services.start_evaluator(run)
        stream = services.stream_orders(run)
        services.measure_baselines(run)
        finish_preflight(run)
        run.timeline.phase("training")
        train(run, stream)
        run.timeline.facts["placement_groups_left"] = cluster.num_placement_groups()
        run.timeline.phase("final")
        results = evaluate(run)
    finally:
        ray.shutdown()
    return results


def finish_preflight(run: Run) -> None:
    """Add the checks that need the index to the others; PreflightError when one of them fails."""
    assert run.index is not None and run.smoke_baselines is not None and run.oracle is not None
    found = check_retrieval(run.config, run.index["index"], run.smoke_baselines, run.oracle)
    run.checks += found
    write_json(run.ledger.preflight, records(run.checks))
    stop_if_blocked(run.checks)
    for check in found:
        if check.verdict in ("warn", "waived"):
            run.say(f"{check.verdict:9} {check.line()}")


def evaluate(run: Run) -> dict[str, Any]:
    """Evaluate survivors and baselines on the final queries, decide, and write results, tables and best/."""
    config, ledger = run.config, run.ledger
    untrained = services.evaluate_baselines(run)
    trained: dict[str, final.FinalResult] = {}
    ends: dict[str, TrialEnd] = {}
    for name in config.resolved_variants:
        end = ledger.end_of(name) or TrialEnd(status="FAILED", epoch=0, reason="no verdict was recorded")
        ends[name] = end
        if end.status in SURVIVED and ledger.variant(name).best.is_file():
            trained[name] = services.evaluate_survivor(run, name)
    run.interrupt.check()
    timed = final.add_latencies(ledger, config, {**trained, **untrained}, run.evaluator)
    trained = {name: timed[name] for name in trained}
    untrained = {name: timed[name] for name in untrained}
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
        waived=[check.name for check in run.checks if check.waived],
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
