"""The actors and data that all trials of a run share: evaluator, predictor, the stream of row numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray

from data.windows.queries import final_queries, smoke_queries
from data.windows.stream import build_stream
from orchestrator.final import evaluate as final
from orchestrator.state import Run


def start_evaluator(run: Run) -> Any:
    """Start the evaluation actor, which builds the run's one index in its own process; returns at once."""
    from evaluation.service.actor import Evaluator

    config, splits = run.config, run.data.splits
    queries = {
        "smoke": smoke_queries(splits, config.smoke.queries, config.seed).rows,
        "final": final_queries(splits, config.final.queries, config.seed).rows,
    }
    flat = config.index.kind == "flat" and config.index.file is None
    return (
        ray.remote(Evaluator)
        .options(name=f"{config.name}/evaluator", num_cpus=0, scheduling_strategy=_beside_driver())
        .remote(
            str(run.data.payload.path.resolve()),
            config.index,
            queries,
            rerank=config.rerank,
            waive=config.preflight.waive,
            # A flat index is the payload itself and is made in no time; what takes long is kept for later runs.
            index_dir=None if flat else str(Path(config.data.cache_dir).resolve() / "index"),
        )
    )


def measure_baselines(run: Run) -> None:
    """Wait for the index; measure baselines and oracle on the smoke queries, against which gates are held."""
    config = run.config
    run.index = ray.get(run.evaluator.ready.remote())
    assert run.index is not None and not run.index["torch_imported"], "FAISS and torch must not share a process"
    answers = ray.get(run.evaluator.baselines.remote("smoke", latency_queries=config.smoke.latency_queries))
    run.oracle = ray.get(run.evaluator.reach.remote("smoke"))
    run.smoke_baselines = {name: answers[name]["metrics"] for name in config.baselines}
    r_at_5 = ", ".join(f"{name} {100 * m['r@5']:.1f} %" for name, m in run.smoke_baselines.items())
    index = run.index["index"]
    kind = f"{index['kind']} of {index['file']}" if "file" in index else index["kind"]
    run.say(f"index     {kind}, {run.data.payload.num_rows:,} chunks; baselines' R@5: {r_at_5}")


def stream_orders(run: Run) -> Any:
    """Put the order of every epoch into the object store, for all trials."""
    most_epochs = max(variant.training.epochs for variant in run.config.resolved_variants.values())
    return build_stream(len(run.data.splits.train), seed=run.config.seed, epochs=range(1, most_epochs + 1))


def start_predictor(run: Run) -> Any:
    """Start the process that predicts with checkpoints, in case it does not run yet; returns at once."""
    if run.predictor is None:
        options = {"name": f"{run.config.name}/predictor", "num_cpus": 0, "scheduling_strategy": _beside_driver()}
        run.predictor = ray.remote(final.PredictorProcess).options(**options).remote()
    return run.predictor


def evaluate_survivor(run: Run, name: str) -> final.FinalResult:
    """Evaluate a survivor on the final queries, once: a stage's gates and the table read the same result."""
    if name not in run.survivors:
        run.survivors[name] = final.evaluate_survivor(
            run.ledger,
            name,
            final_queries(run.data.splits, run.config.final.queries, run.config.seed).rows,
            payload_path=run.data.payload.path.resolve(),
            predictor=start_predictor(run),
            evaluator=run.evaluator,
        )
    return run.survivors[name]


def evaluate_baselines(run: Run) -> dict[str, final.FinalResult]:
    """Evaluate the untrained baselines on the final queries, once."""
    if run.untrained is None:
        run.untrained = final.evaluate_baselines(run.ledger, run.config, run.evaluator)
    return run.untrained


def _beside_driver() -> Any:
    """Keep an actor on the driver's node, which sees payload, index file and run folder."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
