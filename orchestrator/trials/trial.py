"""One trial as Tune runs it: in the process that holds its slot, or with a group of workers.

A trial of one worker runs in Tune's own actor, by Ray Train's local mode. The process holds the slot's CPUs or GPU, and
the next trial takes it over. So torch, kernels, vectors and the GPU's context are paid once a slot. Several workers are
a worker group of Ray Train. Both run `orchestrator.trials.train.train`.

This module imports neither torch nor Ray Train at its top: the driver, which imports it, needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from orchestrator.trials.setup import TrialSetup, Verdict, to_report
from orchestrator.trials.verdicts import wait_for_answer

ORDERS = "orders"
# A worker group that cannot be placed within Ray Train's time-out is tried again this often, then the trial fails.
CONTROLLER_FAILURE_LIMIT = 5


def run_trial(
    config: dict[str, Any], *, setups: Mapping[str, TrialSetup], orders: Mapping[int, Any], storage: str
) -> None:
    """Train what the trial named in `config` is to train; this is Tune's function trainable.

    `orders`: the stream of each training seed.

    Raises what the training raised, which Tune turns into the trial's error.
    """
    setup = setups[config["trial"]]
    if setup.training.workers == 1:
        _run_here(setup, orders[setup.seed])
    else:
        _run_group(setup, orders[setup.seed], storage)


def _run_here(setup: TrialSetup, orders: Any) -> None:
    from ray import tune
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def train_here() -> None:
        import torch

        from orchestrator.trials.train import train

        report = partial(_report, tune.report)
        train(setup, orders=orders, report=report, rank=0, num_workers=1, device=torch.device(setup.device))

    # No worker is asked for: Ray Train runs the function in this process.
    TorchTrainer(train_here, scaling_config=ScalingConfig(num_workers=0)).fit()


def _run_group(setup: TrialSetup, orders: Any, storage: str) -> None:
    from ray.data import ExecutionOptions
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    use_gpu = setup.gpus_per_worker > 0
    resources = {"CPU": float(setup.cpus_per_worker)} | ({"GPU": setup.gpus_per_worker} if use_gpu else {})
    trainer = TorchTrainer(
        _train_in_group,
        train_loop_config={"setup": setup},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=setup.training.workers,
            use_gpu=use_gpu,
            resources_per_worker=resources,
            placement_strategy=setup.placement.upper(),
        ),
        # Every worker reads the whole stream of row numbers and takes its slice of each batch: nothing is dropped to
        # make shards equal, and no coordinator actor is started.
        datasets={ORDERS: orders},
        # Ray Train gives data sets its own execution options, which let blocks overtake each other.
        dataset_config=DataConfig(datasets_to_split=[], execution_options=ExecutionOptions(preserve_order=True)),
        run_config=RunConfig(
            name=setup.name,
            storage_path=storage,
            # Tune tries again, not Ray Train: one place counts the retries.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=CONTROLLER_FAILURE_LIMIT),
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def _train_in_group(config: dict[str, Any]) -> None:
    """Run on every worker of a group: hand Ray Train's context to the training."""
    import ray.train
    import ray.train.torch
    import torch

    from orchestrator.trials.train import train

    context = ray.train.get_context()
    setup: TrialSetup = config["setup"]
    rank = context.get_world_rank()
    train(
        setup,
        orders=ray.train.get_dataset_shard(ORDERS),
        report=partial(_report, ray.train.report) if rank == 0 else partial(_keep_step, ray.train.report),
        rank=rank,
        num_workers=context.get_world_size(),
        device=torch.device("mps") if setup.device == "mps" else ray.train.torch.get_device(),
    )


def _report(send: Any, record: dict[str, Any], files: dict[str, Any]) -> Verdict:
    """Send a record, with its files in the object store, and wait for the judge's answer."""
    import ray

    number = uuid4().hex
    # The driver reads them there before it answers, so this process still owns them.
    references = {name: ray.put(content) for name, content in files.items()}
    send(to_report(record, references, number))
    return wait_for_answer(number)


def _keep_step(send: Any, record: dict[str, Any], files: dict[str, Any]) -> Verdict:
    """Report nothing, as every rank but the first does: Ray Train counts the reports of all."""
    send({})
    return "continue"
