"""What a cluster offers, from Ray's list of nodes; and where everybody's chatter goes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.admission import GIB
from orchestrator.cluster.start import has_mps, local_resources, offered

REPOSITORY = Path(__file__).parents[3]


def node(*, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {**resources, "node:10.0.0.1": 1.0}}


def test_a_cluster_offers_the_sum_of_its_nodes_and_its_largest_node() -> None:
    found = offered([node(CPU=4.0, memory=8.0 * GIB), node(CPU=16.0, GPU=2.0, memory=32.0 * GIB), node(GPU=1.0)])
    assert (found.cpus, found.gpus, found.memory_gib) == (20.0, 3.0, 40.0)
    assert (found.node_cpus, found.node_gpus, len(found.nodes)) == (16.0, 2.0, 3)


def test_a_dead_node_offers_nothing() -> None:
    found = offered([node(CPU=2.0), node(CPU=64.0, GPU=8.0, memory=GIB, alive=False)])
    assert (found.cpus, found.gpus, found.memory_gib, found.node_cpus, len(found.nodes)) == (2.0, 0.0, 0.0, 2.0, 1)


def test_no_node_offers_nothing() -> None:
    found = offered([])
    assert (found.cpus, found.node_cpus, len(found.nodes)) == (0.0, 0.0, 0)


def test_the_gpu_of_an_apple_chip_is_none_for_cuda() -> None:
    nodes = [node(CPU=8.0, GPU=1.0), node(CPU=8.0, GPU=1.0)]
    nodes[0]["Resources"]["accelerator_type:M1-Pro"] = 1.0
    nodes[1]["Resources"]["accelerator_type:H100"] = 1.0
    assert [one.gpus for one in offered(nodes).nodes] == [0.0, 1.0]


@pytest.mark.parametrize(("visible", "gpus"), [(None, 4.0), ("0,2", 2.0), ("", 0.0)])
def test_this_machine_offers_the_gpus_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: float
) -> None:
    from ray._private import accelerators

    for manager in accelerators.get_all_accelerator_managers():
        found = 4 if manager is accelerators.NvidiaGPUAcceleratorManager else 0
        monkeypatch.setattr(manager, "get_current_node_num_accelerators", staticmethod(lambda found=found: found))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_resources().gpus == gpus


def test_this_machine_offers_what_ray_would_find() -> None:
    found = local_resources()
    assert found.cpus == found.node_cpus >= 1
    assert found.memory_gib > 0
    assert len(found.nodes) == 1


@pytest.mark.parametrize(
    ("system", "machine", "found"), [("Darwin", "arm64", True), ("Darwin", "x86_64", False), ("Linux", "arm64", False)]
)
def test_mps_is_apple_silicon(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, found: bool) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert has_mps() is found


# ---- chatter, in a process of its own: pytest's capture stands between Python's prints and the descriptors

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from orchestrator.cluster.start import chatter_to

def chat(when):
    print("python " + when)
    print("python error " + when, file=sys.stderr)
    sys.stdout.flush()
    os.write(1, f"descriptor {when}\\n".encode())
    os.write(2, f"descriptor error {when}\\n".encode())
    subprocess.run(["sh", "-c", f"echo child {when}; echo child error {when} >&2"], check=True)

def num_open():
    return len(list(Path("/dev/fd").iterdir()))

chat("before")
num_before = num_open()
try:
    with chatter_to(Path(sys.argv[1]), sys.stdout, verbose=sys.argv[2] == "verbose") as stream:
        chat("inside")
        stream.write("for the person\\n")
        print("unflushed")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
chat("after")
assert num_open() == num_before
"""


def everyone(when: str, error: str = "") -> list[str]:
    return [f"{who} {error}{when}" for who in ("python", "descriptor", "child")]


def run_program(log: Path, mode: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(log), mode]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)


def test_inside_all_chatter_goes_to_the_log_and_only_the_stream_to_the_person(tmp_path: Path) -> None:
    log = tmp_path / "ray.log"
    log.write_text("from an earlier launch\n")
    done = run_program(log, "quiet")
    logged = log.read_text().splitlines()
    assert logged[0] == "from an earlier launch"
    assert sorted(logged[1:]) == sorted([*everyone("inside"), *everyone("inside", "error "), "unflushed"])
    # An error inside, too, gives everyone the output back, and leaves no descriptor open.
    assert done.stdout.splitlines() == [*everyone("before"), "for the person", *everyone("after")]
    assert done.stderr.splitlines() == [*everyone("before", "error "), *everyone("after", "error ")]


def test_with_verbose_nothing_is_redirected(tmp_path: Path) -> None:
    done = run_program(tmp_path / "ray.log", "verbose")
    shown = [*everyone("before"), *everyone("inside"), "for the person", "unflushed", *everyone("after")]
    assert done.stdout.splitlines() == shown
    assert not (tmp_path / "ray.log").exists()
