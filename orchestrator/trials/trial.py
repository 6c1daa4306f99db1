"""One trial: a Tune trial that runs a one-variant Ray Train TorchTrainer, and the worker function inside it.

This module imports neither torch nor Ray Train at its top: the driver, which imports it, needs neither, and a process
that imports both takes seconds to start.
"""

from __future__ import annotations

from typing import Any

from orchestrator.trials.setup import TrialSetup

WINDOWS = "windows"
# A controller that fails, e.g. since its worker group was not placed within the start time-out that
# orchestrator/cluster/start.py sets, is tried again this often, then the trial fails.
CONTROLLER_FAILURE_LIMIT = 5


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

    from orchestrator.trials.train_loop import train_variant

    context = ray.train.get_context()
    setup: TrialSetup = config["setup"]
    train_variant(
        setup,
        shard=ray.train.get_dataset_shard(WINDOWS),
        report=ray.train.report,
        rank=context.get_world_rank(),
        num_workers=context.get_world_size(),
        device=torch.device("mps") if setup.device == "mps" else ray.train.torch.get_device(),
    )
