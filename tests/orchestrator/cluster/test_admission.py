"""Which trials fit where: slots worked out by hand, refusals with their arithmetic."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from models.spec.costs import num_parameters
from orchestrator.cluster.admission import (
    GIB,
    TRIAL_BASE_GIB,
    Admission,
    ClusterResources,
    Node,
    admit,
    grown,
    longest_first,
    memory_gib,
    resolve_device,
)
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config

DIM = 16
FOUR = """
name: x
variants:
  a: {model: mamba_s, d_model: 32, head_dim: 16}
  b: {model: mamba_s, d_model: 32, head_dim: 16}
  c: {model: mamba_s, d_model: 32, head_dim: 16}
  amn: {d_model: 32}
"""


def config(folder: Path, *overrides: str) -> ExperimentConfig:
    path = folder / "x.yaml"
    path.write_text(FOUR)
    return load_config(path, overrides)


def machine(cpus: float, gpus: float = 0, memory: float = 1000, nodes: int = 1) -> ClusterResources:
    """So much in all, on nodes that are alike."""
    one = Node(cpus=cpus / nodes, gpus=gpus / nodes, memory_gib=memory / nodes)
    return ClusterResources(nodes=(one,) * nodes)


@pytest.mark.parametrize(
    ("resources", "overrides", "found"),
    [((4, 0), (), "cpu"), ((4, 2), ("variants.a.training.workers=2",), "2 workers")],
)
def test_cuda_graphs_are_for_one_worker_on_a_gpu(
    tmp_path: Path, resources: tuple[float, float], overrides: tuple[str, ...], found: str
) -> None:
    line = (
        f"variants.a.training.compile: expected one worker on cuda for true, got {found}; "
        "leave it out (training.compile: auto)"
    )
    with pytest.raises(ValueError, match=re.escape(line)):
        admitted(tmp_path, machine(*resources), "variants.a.training={compile: true}", *overrides)


def test_one_worker_on_a_gpu_may_use_cuda_graphs(tmp_path: Path) -> None:
    assert admitted(tmp_path, machine(4, 1), "training.compile=true").device == "cuda"


def admitted(folder: Path, resources: ClusterResources, *overrides: str) -> Admission:
    return admit(config(folder, *overrides), resources, DIM)


@pytest.mark.parametrize(
    ("cpus", "overrides", "slots"),
    [
        # Four trials. Below four CPUs nothing is reserved, from four on two are.
        (1, (), 1),
        (2, (), 2),
        (3, (), 3),
        (4, (), 2),
        (5, (), 3),
        (16, (), 4),
        (2, ("training.workers=2",), 1),
        (4, ("training.workers=2",), 1),
        (16, ("training.workers=4",), 3),
        (16, ("resources.cpus_per_worker=7",), 2),
        (16, ("resources.cpus_per_worker=4", "training.workers=2"), 1),
        (16, ("resources.max_concurrent=3",), 3),
        (2, ("resources.max_concurrent=8",), 2),
        (16, ("variants.b=null", "variants.c=null"), 2),
        # The widest trial counts: 16 - 2 over 5 workers.
        (16, ("variants.a.training={workers: 5, batch_size: 255}",), 2),
        # All four CPUs fit one trial of four workers: the reserve must not keep it out.
        (4, ("training.workers=4",), 1),
    ],
)
def test_slots_are_the_cpus_left_over_the_cpus_of_a_trial(
    tmp_path: Path, cpus: float, overrides: tuple[str, ...], slots: int
) -> None:
    assert admitted(tmp_path, machine(cpus), *overrides).slots == slots


@pytest.mark.parametrize(
    ("gpus", "overrides", "slots"),
    [
        (1, (), 1),
        (3, (), 3),
        (8, (), 4),
        (4, ("training.workers=2",), 2),
        (1, ("resources.gpus_per_worker=0.5",), 2),
        (1, ("resources.gpus_per_worker=0.4",), 2),
        # 0.3 / 0.1 is 2.999... in floating point and 3 in truth.
        (0.3, ("resources.gpus_per_worker=0.1",), 3),
        (4, ("resources.gpus_per_worker=2",), 2),
    ],
)
def test_slots_are_the_gpus_over_the_gpus_of_a_trial(
    tmp_path: Path, gpus: float, overrides: tuple[str, ...], slots: int
) -> None:
    admission = admitted(tmp_path, machine(64, gpus), *overrides)
    assert (admission.device, admission.slots) == ("cuda", slots)


@pytest.mark.parametrize(
    ("resources", "overrides", "slots"),
    [
        # Eight nodes of 1.5 GiB have 12 GiB and hold no trial of 2.1 GiB: see the refusals.
        (machine(12, nodes=4), ("resources.cpus_per_worker=2",), 4),
        (machine(32, memory=12, nodes=4), (), 4),
        (machine(8, gpus=2, nodes=2), ("resources.gpus_per_worker=0.6",), 2),
        (machine(64, memory=16.4, nodes=4), (), 4),
    ],
    ids=["a CPU is left over on each", "memory of each", "GPUs of each", "one a node"],
)
def test_a_trial_stands_on_one_node(
    tmp_path: Path, resources: ClusterResources, overrides: tuple[str, ...], slots: int
) -> None:
    admission = admitted(tmp_path, resources, *overrides)
    assert admission.slots == slots
    assert f" nodes, each by itself, {slots}" in admission.arithmetic


def test_apples_gpu_takes_one_trial_at_a_time(tmp_path: Path) -> None:
    admission = admit(config(tmp_path), machine(16), DIM, has_mps=True)
    assert (admission.device, admission.slots) == ("mps", 1)


def test_memory_limits_the_slots(tmp_path: Path) -> None:
    # Small models: a trial is its processes' 2 GiB and 0.05 GiB for a step, so 5 GiB hold two and 4 GiB one.
    assert admitted(tmp_path, machine(64, memory=5.0)).slots == 2
    assert admitted(tmp_path, machine(64, memory=4.0)).slots == 1


def test_the_largest_setting_of_a_search_limits_the_slots(tmp_path: Path) -> None:
    search = "search={samples: 2, space: {training.batch_size: [256, 131072]}}"
    largest = {trial.variant.training.batch_size: trial.variant for trial in config(tmp_path, search).trials.values()}
    assert set(largest) == {256, 131072}
    gib = memory_gib(largest[131072], DIM, 5)
    assert admit(config(tmp_path, search), machine(8, memory=2.5 * gib), DIM).slots == 2


def test_the_estimate_is_processes_plus_four_copies_of_the_weights_plus_what_a_step_holds(tmp_path: Path) -> None:
    variant = config(tmp_path, "training.batch_size=8").resolved_variants["a"]
    weights = 4 * 4 * num_parameters(variant.spec, DIM)
    activations = 8 * 5 * 64 * 16 * 4 * 9  # batch, context, the inner width, values, bytes, eight layers and the head
    products = 8 * 5 * 8 * 8 * 4  # batch, positions, the batch's targets, values, bytes
    assert memory_gib(variant, DIM, 5) == pytest.approx(TRIAL_BASE_GIB + (weights + activations + products) / GIB)


@pytest.mark.parametrize(
    ("loss", "pairs"),
    [
        ("{negatives: all}", 5 * 5 * 8),  # each of five positions with the targets of all five
        ("{infonce: 0, recall: 1, recall_chunks: 100}", 5 * 100),
        ("{infonce: 0, recall: 1, recall_chunks: 100, dense: false}", 100),
        ("{infonce: 0}", 0),  # a cosine compares with the target alone
    ],
)
def test_a_step_holds_the_products_that_its_loss_asks_for(tmp_path: Path, loss: str, pairs: int) -> None:
    def estimate(loss: str) -> float:
        settings = "training.batch_size=8", f"training.loss={loss}"
        return memory_gib(config(tmp_path, *settings).resolved_variants["a"], DIM, 5)

    assert (estimate(loss) - estimate("{infonce: 0, mse: 1}")) * GIB == pytest.approx(8 * pairs * 8 * 4, abs=1)


def test_the_arithmetic_is_shown(tmp_path: Path) -> None:
    assert admitted(tmp_path, machine(16, memory=100)).arithmetic == (
        "4 at once = min of CPUs (16 - 2 reserved) / 1 = 14, memory 100.0 / 2.1 GiB = 48, trials = 4"
    )
    shown = admitted(tmp_path, machine(16, 2), "resources.max_concurrent=1", "training.workers=2").arithmetic
    assert shown.startswith("1 at once = min of CPUs (16 - 2 reserved) / 2 = 7, memory ")
    assert ", GPUs 2 / 2 = 1, max_concurrent = 1, trials = 4" in shown


def test_on_the_cpu_no_gpu_is_asked_for(tmp_path: Path) -> None:
    admission = admitted(tmp_path, machine(4, 2), "resources.device=cpu")
    assert (admission.device, admission.gpus_per_worker, admission.slots) == ("cpu", 0.0, 2)


@pytest.mark.parametrize(
    ("resources", "overrides", "message"),
    [
        (
            machine(2),
            ("training.workers=4",),
            "variants.a: expected at most 2 CPUs (2 on one node), got 4 workers x 1 CPUs = 4; lower training.workers",
        ),
        (
            machine(8, nodes=2),
            ("resources.cpus_per_worker=5",),
            "variants.a: expected at most 8 CPUs (4 on one node), got 1 workers x 5 CPUs = 5; lower training.workers",
        ),
        (
            machine(64, 2),
            ("training.workers=4",),
            "variants.a: expected at most 2 GPUs (2 on one node), got 4 workers x 1 GPUs = 4; lower training.workers",
        ),
        (
            machine(64, 4, nodes=2),
            ("resources.gpus_per_worker=3",),
            "variants.a: expected at most 4 GPUs (2 on one node), got 1 workers x 3 GPUs = 3; lower training.workers",
        ),
        (
            machine(64, 2),
            ("resources.gpus_per_worker=0.5", "training.workers=2"),
            "resources.gpus_per_worker: expected a whole GPU for variants.a.training.workers 2, got 0.5; ",
        ),
        (
            machine(64, 2),
            ("resources.gpus_per_worker=1.5",),
            "resources.gpus_per_worker: expected a share of one GPU or whole GPUs, got 1.5; use 1 or 2",
        ),
        (
            machine(64, 2),
            ("resources.gpus_per_worker=0",),
            "resources.gpus_per_worker: expected more than 0 on cuda, got 0; use resources.device: cpu",
        ),
        (
            machine(32, memory=12, nodes=8),
            (),
            "variants.a: expected at most 1.5 GiB of memory, got an estimate of 2.1 GiB",
        ),
        (machine(2, memory=1.5), (), "variants.a: expected at most 1.5 GiB of memory, got an estimate of 2.1 GiB ("),
        (
            machine(2),
            ("resources.device=cuda",),
            "resources.device: expected a GPU for cuda, got a cluster with 0; use",
        ),
        (machine(2), ("resources.device=mps",), "resources.device: expected Apple silicon for mps, got none; use auto"),
    ],
)
def test_what_can_never_fit_is_refused_with_the_arithmetic(
    tmp_path: Path, resources: ClusterResources, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError) as refused:
        admitted(tmp_path, resources, *overrides)
    assert str(refused.value).startswith(message)


def test_two_workers_may_stand_on_two_nodes(tmp_path: Path) -> None:
    assert admitted(tmp_path, machine(2, nodes=2), "training.workers=2").slots == 1


@pytest.mark.parametrize(
    ("wanted", "gpus", "has_mps", "device"),
    [
        ("auto", 1, True, "cuda"),
        ("auto", 0, True, "mps"),
        ("auto", 0, False, "cpu"),
        ("cpu", 1, True, "cpu"),
        ("mps", 1, True, "mps"),
        ("cuda", 1, True, "cuda"),
    ],
)
def test_auto_takes_cuda_then_mps_then_cpu(wanted: str, gpus: float, has_mps: bool, device: str) -> None:
    assert resolve_device(wanted, gpus, has_mps=has_mps) == device


def test_the_most_expensive_variant_starts_first_and_equals_keep_the_files_order(tmp_path: Path) -> None:
    assert longest_first({"a": 1.0, "b": 3.0, "c": 1.0, "amn": 2.0}) == ["b", "amn", "a", "c"]


@pytest.mark.parametrize(
    ("cpus", "gpus", "overrides", "threads"),
    [
        (2, 0, (), 1),
        (16, 1, ("resources.gpus_per_worker=0.5",), 13),  # 16 - 2 trials - 1 for Ray
        (64, 1, (), 16),
    ],
)
def test_the_evaluator_works_on_the_cpus_that_no_trial_holds(
    tmp_path: Path, cpus: int, gpus: int, overrides: tuple[str, ...], threads: int
) -> None:
    assert admitted(tmp_path, machine(cpus, gpus), *overrides).evaluator_threads == threads


EXPECT = "resources.expect={nodes: 3, cpus: 13, gpus: 4, memory_gib: 3000}"


def test_nodes_that_are_still_to_come_share_what_the_totals_lack(tmp_path: Path) -> None:
    expect = config(tmp_path, EXPECT).resources.expect
    assert expect is not None
    today = ClusterResources(nodes=(Node(cpus=1, gpus=0, memory_gib=1000),), joined=True)
    coming = Node(cpus=6, gpus=2, memory_gib=1000)
    assert grown(today, expect).nodes == (*today.nodes, coming, coming)
    complete = replace(today, nodes=today.nodes * 3)
    assert grown(complete, expect) is complete


def test_gpus_that_cannot_be_shared_equally_are_all_counted(tmp_path: Path) -> None:
    expect = config(tmp_path, "resources.expect={nodes: 4, gpus: 8}").resources.expect
    assert expect is not None
    head = ClusterResources(nodes=(Node(cpus=4, gpus=0, memory_gib=8),), joined=True)
    assert [node.gpus for node in grown(head, expect).nodes] == [0, 3, 3, 2]


def test_trials_are_not_spread_so_wide_that_fewer_run_at_once(tmp_path: Path) -> None:
    # Three at once. With a GPU each there would be one on the first node, for its CPU, and one on the second.
    nodes = (Node(cpus=1, gpus=4, memory_gib=1000), Node(cpus=4, gpus=1, memory_gib=1000))
    asked = ("resources.gpus_per_worker=0.25", "resources.placement=spread")
    plan = admitted(tmp_path, ClusterResources(nodes=nodes), *asked)
    assert (plan.slots, plan.gpus_per_worker) == (3, 0.5)
    assert "GPUs 5 / 0.25 = 20, on 2 nodes, each by itself, 5, spread: 0.5 GPU each" in plan.arithmetic


def test_without_totals_a_node_to_come_is_like_the_largest_of_today(tmp_path: Path) -> None:
    expect = config(tmp_path, "resources.expect={nodes: 3}").resources.expect
    assert expect is not None
    small, large = Node(cpus=1, gpus=0, memory_gib=2), Node(cpus=8, gpus=1, memory_gib=64)
    assert grown(ClusterResources(nodes=(small, large), joined=True), expect).nodes == (small, large, large)


def test_a_joined_cluster_is_planned_as_it_will_be_and_a_machine_as_it_is(tmp_path: Path) -> None:
    found = replace(machine(1), joined=True)
    plan = admitted(tmp_path, found, EXPECT, "resources.device=cpu")
    assert plan.slots == 4
    assert "on 3 nodes, each by itself, 13 (2 of them still to come)" in plan.arithmetic
    assert admitted(tmp_path, machine(1), EXPECT).slots == 1


def test_expected_nodes_of_unknown_size_are_refused(tmp_path: Path) -> None:
    head = ClusterResources(nodes=(Node(cpus=0, gpus=0, memory_gib=8),), joined=True)
    with pytest.raises(ValueError, match=r"^resources\.expect\.cpus: expected the CPUs of the whole cluster, got none"):
        admitted(tmp_path, head, "resources.expect={nodes: 2}")


@pytest.mark.parametrize(
    ("gpus", "trials", "share"),
    [
        (4, "a,b,c", 1.0),  # one each
        (2, "a,b", 1.0),
        (2, "a,b,c", 0.5),  # two share one of them
        (1, "a,b,c", 0.3333),
        (1, "a,b,c,amn", 0.25),  # as asked
    ],
)
def test_spread_trials_take_free_gpus_before_they_share_one(
    tmp_path: Path, gpus: int, trials: str, share: float
) -> None:
    asked = ("resources.gpus_per_worker=0.25", "resources.placement=spread")
    whole = config(tmp_path, *asked)
    chosen = whole.model_copy(update={"variants": {name: whole.variants[name] for name in trials.split(",")}})
    plan = admit(chosen, machine(16, gpus), DIM)
    assert (plan.slots, plan.gpus_per_worker) == (len(trials.split(",")), share)
    assert admitted(tmp_path, machine(16, gpus), asked[0]).gpus_per_worker == 0.25
