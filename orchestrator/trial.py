"""One trial: a Tune trial that runs a one-variant Ray Train TorchTrainer, and the worker function inside it.

This module imports neither torch nor Ray Train at its top: the driver, which imports it, needs neither, and a process
that imports both takes seconds to start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import TrainingConfig, Variant
from orchestrator.gates import EarlyStopping, StopRules

WINDOWS = "windows"
# A worker group that cannot be placed within Ray Train's 60 s is tried again this often, then the trial fails.
CONTROLLER_FAILURE_LIMIT = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSetup:
    """Everything a trial's worker needs, picklable.

    folder, windows_path: the variant's folder and that of the window tables, on storage that every node sees.
    payload_path: the payload's folder; a node that does not see it gets the vectors from the object store.
    selection: which epoch's weights best.pt holds. evaluator: handle of the evaluation actor.
    """

    variant: Variant
    folder: Path
    payload_path: Path
    windows_path: Path
    seed: int
    smoke_epochs: tuple[int, ...]
    num_smoke_queries: int
    smoke_latency_queries: int
    latency_limits_ms: dict[int, float]
    rules: StopRules
    selection: EarlyStopping
    device: str
    cpus_per_worker: int
    gpus_per_worker: float
    evaluator: Any
    provenance: dict[str, str]

    @property
    def training(self) -> TrainingConfig:
        """Return the variant's training settings."""
        return self.variant.training


def run_trial(config: dict[str, Any], *, setups: dict[str, TrialSetup], stream: Any, storage: str) -> None:
    """Train the variant named in `config` with Ray Train; this is Tune's function trainable.

    Raises what the worker raised, which Tune turns into the trial's error.
    """
    from ray.data import ExecutionOptions
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    setup = setups[config["variant"]]
    use_gpu = setup.gpus_per_worker > 0
    resources = {"CPU": float(setup.cpus_per_worker)} | ({"GPU": setup.gpus_per_worker} if use_gpu else {})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"setup": setup},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=setup.training.workers, use_gpu=use_gpu, resources_per_worker=resources
        ),
        # Every worker reads the whole stream of row numbers and takes its slice of each batch: nothing is dropped to
        # make shards equal, and no coordinator actor is started.
        datasets={WINDOWS: stream},
        # Ray Train gives data sets its own execution options, which let blocks overtake each other.
        dataset_config=DataConfig(datasets_to_split=[], execution_options=ExecutionOptions(preserve_order=True)),
        run_config=RunConfig(
            name=setup.variant.name,
            storage_path=storage,
            failure_config=FailureConfig(
                max_failures=setup.training.max_retries, controller_failure_limit=CONTROLLER_FAILURE_LIMIT
            ),
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def train_worker(config: dict[str, Any]) -> None:
    """Run on every worker of the trial: hand Ray Train's context to the training loop."""
    import ray.train
    import ray.train.torch
    import torch

    from orchestrator.train_loop import train

    context = ray.train.get_context()
    setup: TrialSetup = config["setup"]
    train(
        setup,
        shard=ray.train.get_dataset_shard(WINDOWS),
        report=ray.train.report,
        rank=context.get_world_rank(),
        num_workers=context.get_world_size(),
        device=torch.device("mps") if setup.device == "mps" else ray.train.torch.get_device(),
    )


def to_report(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker reports of an epoch: its numbers for Tune's own displays, and the whole record as text.

    Tune flattens nested results with "/" for its scheduler, and not for its callbacks; text stays as it is.
    """
    numbers = {name: value for name, value in record.items() if isinstance(value, (int, float))}
    return {**numbers, "record": json.dumps(record)}


def from_report(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record in a report; None in the reports that Tune makes up itself."""
    text = result.get("record")
    return None if text is None else json.loads(text)
