"""What all trials of a run share: the evaluator with the one index, and the stream of row numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from data.errors import UserError
from data.windows.stream import build_stream
from evaluation.measures.metrics import DECISION_METRIC, metric
from evaluation.retrieval.corpus import TrainingWindows
from evaluation.service.remote import RemoteEvaluator
from models.spec.imported import is_import_path
from orchestrator.cluster.start import beside_driver
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.state import Measured, Prepared, Session, Started
from orchestrator.trials.setup import TrialWindows


def start_evaluator(prepared: Prepared, threads: int) -> Any:
    """Start the evaluation actor, which builds the run's one index in its own process; returns at once."""
    config = prepared.config
    flat = config.index.kind == "flat" and config.index.file is None
    return (
        ray.remote(RemoteEvaluator)
        .options(
            name=f"{config.name}/evaluator",
            num_cpus=0,
            scheduling_strategy=beside_driver(),
            # Whatever the shell says: with more threads of BLAS some processors sum otherwise, and so would two shells.
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            # When its process dies, the index is opened or built again, and what it was asked is asked once more.
            max_restarts=3,
            max_task_retries=3,
        )
        .remote(
            str(prepared.data.payload.path.resolve()),
            config.index,
            prepared.questions.sets(),
            training=TrainingWindows(
                train=prepared.data.splits.train.rows,
                val=prepared.questions.val.windows,
                val_novel=prepared.questions.val.novel,
            ),
            baselines=config.baselines,
            metrics=config.metrics,
            threads=threads,
            rerank=config.rerank,
            waive=config.preflight.waive,
            # A flat index is the payload itself and is made in no time; what takes long is kept for later runs.
            index_dir=None if flat else str(Path(config.data.cache_dir).resolve() / "index"),
        )
    )


def share_windows(prepared: Prepared) -> Any:
    """Put the row numbers that trials read into the object store, once; return the reference."""
    questions = prepared.questions
    return ray.put(
        TrialWindows(
            train=prepared.data.splits.train.rows,
            val=questions.val.windows,
            val_novel=questions.val.novel,
            smoke=questions.smoke.windows,
            test=questions.final.windows,
        )
    )


def fit_line(prepared: Prepared, evaluator: Any) -> Any:
    """Return a reference to the line that `residual: fitted` starts from, fitted once a run; None if nobody does."""
    variants = prepared.config.resolved_variants.values()
    return evaluator.line.remote() if any(one.spec.residual == "fitted" for one in variants) else None


def stream_orders(prepared: Prepared) -> dict[int, Any]:
    """Put the order of every epoch under every training seed into the object store, for all trials."""
    config, num_windows = prepared.config, len(prepared.data.splits.train)
    epochs = range(1, max(variant.training.epochs for variant in config.resolved_variants.values()) + 1)
    return {seed: build_stream(num_windows, seed=seed, epochs=epochs) for seed in config.training_seeds}


def _hold_latency_against_baselines(config: ExperimentConfig) -> bool:
    """Return whether a smoke gate names a baseline's latency; to measure one takes seconds that trials wait for."""
    rules = [rule for one in config.gates.smoke for rule in (*one.gate().prune_unless, *one.gate().continue_if)]
    return any(rule.baseline is not None and metric(rule.metric).unit == "ms" for rule in rules)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """References to what the evaluator was asked: its index, and what untrained predictions find on smoke queries."""

    baselines: Any
    oracle: Any
    index: Any

    def is_answered(self) -> bool:
        """Return whether all of it is there, or an error instead."""
        references = [self.baselines, self.oracle, self.index]
        found, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return len(found) == len(references)


def ask(prepared: Prepared, started: Started) -> Asked:
    """Ask the evaluator for what gates are held against; returns at once."""
    config, evaluator = prepared.config, started.evaluator
    timed = config.smoke.latency_queries if _hold_latency_against_baselines(config) else 0
    return Asked(
        baselines=evaluator.baselines.remote("smoke", latency_queries=timed, time_predictions=False),
        oracle=evaluator.reach.remote("smoke"),
        index=evaluator.ready.remote(),  # last: it says whether a baseline has imported torch
    )


def measure(prepared: Prepared, asked: Asked, session: Session) -> Measured:
    """Wait for index, baselines and oracle, and say what they find.

    The checks are still those of the data: see `orchestrator.pipeline.finish_preflight`.
    """
    config = prepared.config
    index = ray.get(asked.index)
    session.timeline.facts |= {"index_builds": index["index_builds"], "index_build_s": index["build_s"]}
    if index["torch_imported"]:
        raise UserError(
            "baselines: expected functions that do not import torch, which must not share a process with FAISS, got "
            f"one that does among {', '.join(filter(is_import_path, config.baselines))}; write it with numpy"
        )
    answers = ray.get(asked.baselines)
    baselines = {name: answers[name]["metrics"] for name in config.baseline_names}
    oracle = ray.get(asked.oracle)
    found = index["index"]
    kind = f"{found['kind']} of {found['file']}" if "file" in found else found["kind"]
    found_by = ", ".join(f"{name} {100 * metrics[DECISION_METRIC]:.1f} %" for name, metrics in baselines.items())
    session.say(f"index     {kind}, {prepared.data.payload.num_rows:,} chunks; baselines' novel R@5: {found_by}")
    return Measured(index=index, baselines=baselines, oracle=oracle, checks=prepared.checks)
