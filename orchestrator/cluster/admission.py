"""What fits where: concurrency from what the cluster really has, and a refusal with the arithmetic for what cannot fit.

Trials hold whole CPUs (and GPUs). The evaluation actor holds none, nor do the controller and the Tune actor of a trial
with a worker group, and the stream's blocks are in the object store already. So none of these can wait for ever behind
the trials. With four CPUs or more, one is kept for the evaluation actor and one for Ray's own processes. With fewer
there is none to spare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from data.errors import UserError
from models.spec.costs import num_parameters, values_per_window
from orchestrator.config.experiment import ExperimentConfig, Variant
from orchestrator.config.sections import ExpectConfig, TrainingConfig

GIB = 1024**3
# Measured with Ray 2.60: the worker 0.40, controller 0.39, Tune actor 0.39, four helpers 0.19 each.
TRIAL_BASE_GIB = 2.0
PRODUCT_VALUES = 8  # mask, sigmoid or softmax, and gradients of each
RESERVE_FROM_CPUS = 4
RESERVED_CPUS = 2
SHARES_OF_GPU = 10_000  # Ray counts in these parts
MOST_EVALUATOR_THREADS = 16  # each holds a block of a fit, up to 0.3 GB


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What one node offers."""

    cpus: float
    gpus: float
    memory_gib: float

    def num_fitting(self, *, cpus: float, gpus: float, memory_gib: float) -> int:
        """Return how many trials of one worker that need so much fit onto this node."""
        fits = [self.cpus / cpus, self.memory_gib / memory_gib, *([self.gpus / gpus + 1e-9] if gpus else [])]
        return int(min(fits))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterResources:
    """What the cluster offers: its nodes, all of them together, and the most that one of them has.

    `joined`: it was there before, and may grow; `expected`: so many of the nodes are still to come.
    """

    nodes: tuple[Node, ...]
    joined: bool = False
    expected: int = 0

    @property
    def cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    @property
    def memory_gib(self) -> float:
        """Memory of all nodes."""
        return sum(node.memory_gib for node in self.nodes)

    @property
    def node_cpus(self) -> float:
        """The most CPUs on one node."""
        return max((node.cpus for node in self.nodes), default=0.0)

    @property
    def node_gpus(self) -> float:
        """The most GPUs on one node."""
        return max((node.gpus for node in self.nodes), default=0.0)

    @property
    def node_memory_gib(self) -> float:
        """The most memory on one node."""
        return max((node.memory_gib for node in self.nodes), default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """The resolved plan of resources."""

    device: Literal["cuda", "mps", "cpu"]
    slots: int
    cpus_per_worker: int
    gpus_per_worker: float
    arithmetic: str
    evaluator_threads: int = 1


def memory_gib(variant: Variant, dim: int, context_length: int) -> float:
    """Return the estimated resident memory of one trial's processes, in GiB.

    Weights, gradients and AdamW's two moments are four float32 copies; activations and the loss's products are those of
    one batch.
    """
    training = variant.training
    weights = 4 * num_parameters(variant.spec, dim)
    activations = training.batch_size * values_per_window(variant.spec, dim, context_length)
    products = training.batch_size * _products_per_window(training, context_length)
    return TRIAL_BASE_GIB + 4 * (weights + activations + products) / GIB


def _products_per_window(training: TrainingConfig, context_length: int) -> int:
    """Return about how many values the loss holds for each window: a few for each pair of prediction and candidate."""
    loss = training.loss
    positions = context_length if loss.dense else 1
    others = training.batch_size * (positions if loss.negatives == "all" else 1) if loss.infonce > 0 else 0
    drawn = loss.recall_chunks if loss.recall > 0 else 0
    return PRODUCT_VALUES * positions * (others + drawn)


def resolve_device(wanted: str, gpus: float, *, has_mps: bool) -> Literal["cuda", "mps", "cpu"]:
    """Return the device that `auto` means here: cuda where the cluster has GPUs, then mps, then cpu."""
    if wanted == "auto":
        return "cuda" if gpus > 0 else "mps" if has_mps else "cpu"
    if wanted == "cuda" and gpus == 0:
        raise UserError("resources.device: expected a GPU for cuda, got a cluster with 0; use auto or cpu")
    if wanted == "mps" and not has_mps:
        raise UserError("resources.device: expected Apple silicon for mps, got none; use auto or cpu")
    return "cuda" if wanted == "cuda" else "mps" if wanted == "mps" else "cpu"


def admit(config: ExperimentConfig, cluster: ClusterResources, dim: int, *, has_mps: bool = False) -> Admission:
    """Return how many trials run at once on what; UserError with the arithmetic for a variant that can never fit."""
    if config.resources.expect is not None and cluster.joined:
        cluster = grown(cluster, config.resources.expect)
    device = resolve_device(config.resources.device, cluster.gpus, has_mps=has_mps)
    variants = [trial.variant for trial in config.trials.values()]  # of a search each setting's own sizes
    cpus = config.resources.cpus_per_worker
    gpus = config.resources.gpus_per_worker if device == "cuda" else 0.0
    if device == "cuda":
        _check_gpu_share(gpus)
    for variant in variants:
        _check_compiles(variant, device)
        _check_fits(config, cluster, variant, dim, cpus=cpus, gpus=gpus)
    reserved = RESERVED_CPUS if cluster.cpus >= RESERVE_FROM_CPUS else 0
    workers = max(variant.training.workers for variant in variants)
    largest_gib = max(memory_gib(variant, dim, config.data.context_length) for variant in variants)
    limits = {
        "CPUs": int((cluster.cpus - reserved) // (workers * cpus)),
        "memory": int(cluster.memory_gib // largest_gib),
        "trials": len(config.trials),
    }
    if workers == 1 and len(cluster.nodes) > 1:
        # Sums hide that a trial cannot stand on two nodes.
        limits["nodes"] = sum(node.num_fitting(cpus=cpus, gpus=gpus, memory_gib=largest_gib) for node in cluster.nodes)
    if device == "mps":
        limits["Apple GPUs"] = 1
    if gpus:
        limits["GPUs"] = int(cluster.gpus / (workers * gpus) + 1e-9)
    if config.resources.max_concurrent != "auto":
        limits["max_concurrent"] = config.resources.max_concurrent
    # The reserve is a courtesy: it must not keep a trial out that the cluster can hold.
    slots = max(1, min(limits.values()))
    given = gpus
    if 0 < gpus < 1 and config.resources.placement == "spread":
        given = _widest_share(gpus, slots, cluster, cpus=cpus, memory_gib=largest_gib)
    arithmetic = (
        f"{slots} at once = min of CPUs ({cluster.cpus:g} - {reserved} reserved) / {workers * cpus} = "
        f"{limits['CPUs']}, "
        f"memory {cluster.memory_gib:.1f} / {largest_gib:.1f} GiB = {limits['memory']}"
        + (f", GPUs {cluster.gpus:g} / {workers * gpus:g} = {limits['GPUs']}" if gpus else "")
        + (f", on {len(cluster.nodes)} nodes, each by itself, {limits['nodes']}" if "nodes" in limits else "")
        + (f" ({cluster.expected} of them still to come)" if cluster.expected else "")
        + (", one on Apple's GPU" if device == "mps" else "")
        + (f", spread: {given:g} GPU each" if given != gpus else "")
        + (f", max_concurrent = {limits['max_concurrent']}" if "max_concurrent" in limits else "")
        + f", trials = {limits['trials']}"
    )
    return Admission(
        device=device,
        slots=slots,
        cpus_per_worker=cpus,
        gpus_per_worker=given,
        arithmetic=arithmetic,
        evaluator_threads=_spare_threads(cluster, slots * workers * cpus),
    )


def grown(cluster: ClusterResources, expect: ExpectConfig) -> ClusterResources:
    """Return a cluster with the nodes that are still to come, which share what the totals lack.

    Raises:
        UserError: nothing says how many CPUs they will have.
    """
    missing = expect.nodes - len(cluster.nodes)
    if missing <= 0:
        return cluster
    if expect.cpus is None and cluster.node_cpus == 0:
        raise UserError(
            "resources.expect.cpus: expected the CPUs of the whole cluster, got none, and no node of today has any; "
            "give the number"
        )

    def whole_shares(total: float | None, present: float, largest: float) -> list[int]:
        if total is None:
            return [int(largest)] * missing
        least, more = divmod(max(0, int(total - present)), missing)
        return [least + 1] * more + [least] * (missing - more)

    cpus = whole_shares(expect.cpus, cluster.cpus, cluster.node_cpus)
    gpus = whole_shares(expect.gpus, cluster.gpus, cluster.node_gpus)
    memory = cluster.node_memory_gib
    if expect.memory_gib is not None:
        memory = max(0.0, expect.memory_gib - cluster.memory_gib) / missing
    coming = [Node(cpus=cpu, gpus=gpu, memory_gib=memory) for cpu, gpu in zip(cpus, gpus, strict=True)]
    return ClusterResources(nodes=(*cluster.nodes, *coming), joined=True, expected=missing)


def _widest_share(asked: float, slots: int, cluster: ClusterResources, *, cpus: float, memory_gib: float) -> float:
    """Return the largest share of a GPU, a half, a third and so on, at which all slots still fit; else what was asked.

    Ray fills one GPU before it takes the next, so a trial leaves a GPU to others only by holding more of its own.
    """
    shares = (int(SHARES_OF_GPU / trials) / SHARES_OF_GPU for trials in range(1, int(1 / asked) + 1))
    for share in shares:
        if sum(node.num_fitting(cpus=cpus, gpus=share, memory_gib=memory_gib) for node in cluster.nodes) >= slots:
            return max(asked, share)
    return asked


def _spare_threads(cluster: ClusterResources, held: int) -> int:
    """Return a node's share of the CPUs that no trial holds, less one for Ray: the evaluator's."""
    return max(1, min(MOST_EVALUATOR_THREADS, int(cluster.cpus - held) // len(cluster.nodes) - 1))


def _check_gpu_share(gpus: float) -> None:
    if gpus == 0:
        raise UserError(
            "resources.gpus_per_worker: expected more than 0 on cuda, got 0; use resources.device: cpu to leave the GPU"
        )
    if gpus > 1 and gpus != int(gpus):
        raise UserError(
            f"resources.gpus_per_worker: expected a share of one GPU or whole GPUs, got {gpus:g}; "
            f"use {int(gpus)} or {int(gpus) + 1}"
        )


def _check_compiles(variant: Variant, device: str) -> None:
    if variant.training.compile is True and (device != "cuda" or variant.training.workers > 1):
        found = f"{variant.training.workers} workers" if device == "cuda" else device
        raise UserError(
            f"variants.{variant.name}.training.compile: expected one worker on cuda for true, got {found}; "
            "leave it out (training.compile: auto)"
        )


def _check_fits(
    config: ExperimentConfig, cluster: ClusterResources, variant: Variant, dim: int, *, cpus: int, gpus: float
) -> None:
    path = f"variants.{variant.name}"
    workers = variant.training.workers
    if 0 < gpus < 1 and workers > 1:
        raise UserError(
            f"resources.gpus_per_worker: expected a whole GPU for {path}.training.workers {workers}, got {gpus:g}; "
            "two workers cannot share one GPU under NCCL: use 1 or workers: 1"
        )
    if workers * cpus > cluster.cpus or cpus > cluster.node_cpus:
        raise UserError(
            f"{path}: expected at most {cluster.cpus:g} CPUs ({cluster.node_cpus:g} on one node), got "
            f"{workers} workers x {cpus} CPUs = {workers * cpus}; lower training.workers or resources.cpus_per_worker"
        )
    if workers * gpus > cluster.gpus or gpus > cluster.node_gpus:
        raise UserError(
            f"{path}: expected at most {cluster.gpus:g} GPUs ({cluster.node_gpus:g} on one node), got "
            f"{workers} workers x {gpus:g} GPUs = {workers * gpus:g}; lower training.workers or gpus_per_worker"
        )
    needed = memory_gib(variant, dim, config.data.context_length)
    if needed > cluster.node_memory_gib:
        raise UserError(
            f"{path}: expected at most {cluster.node_memory_gib:.1f} GiB of memory, got an estimate of {needed:.1f} "
            f"GiB ({num_parameters(variant.spec, dim):,} parameters, batch {variant.training.batch_size}); "
            "lower training.batch_size or the sizes of the variant"
        )


def longest_first(costs: Mapping[str, float]) -> list[str]:
    """Return the trials in the order they are started: the most expensive first, so that none is left over alone."""
    return sorted(costs, key=lambda name: -costs[name])
