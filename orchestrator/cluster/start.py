"""Starting Ray, or joining a running cluster, quietly; and what it offers."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data.errors import UserError
from orchestrator.cluster.admission import GIB, ClusterResources, Node
from orchestrator.cluster.agents import agents_that_end
from orchestrator.cluster.nodes import PACKAGES, check_nodes
from orchestrator.cluster.private import keep_token_private, session_folder, token_path

# Read by Ray when it is imported or when its processes start, so they are set before.
SHIPPED = {".py", ".j2", ".css", ".js"}
_APPLE_CHIP = re.compile(r"accelerator_type:M\d(-(Pro|Max|Ultra))?")
LISTEN_S = 10
"""A cluster that does not answer for so long is not there."""
_ENVIRONMENT = {
    # A report reaches the scheduler after this poll; the default of 2 s would be a fifth of a short epoch.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_V2_ENABLED": "1",
    # A trial may wait for its slot as long as others train; see orchestrator/training/tuning.py.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(7 * 24 * 3600),
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Workers watch for a drain notice themselves, see orchestrator/trials/inside.py: one actor and one process fewer.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # The run folder holds the metrics and the checkpoints; Tune's own copies of both are not needed.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # Ctrl-C is handled by the launcher.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_TRAIN_CHECKPOINT_UPLOAD_WARN_INTERVAL_S": "3600",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_own: dict[str, str] = {}  # the address that `_name_cluster` chose in this process
_LOCAL_ENVIRONMENT = {
    # A worker that starts while the cluster dies tries five times so long to reach its head: 25 s by default.
    "RAY_gcs_rpc_server_connect_timeout_s": "1",
    # The driver is answered only when the first workers, started ahead of any need, have registered: it would wait for
    # ever when one of them is killed.
    "RAY_prestart_worker_first_driver": "0",
    # Groups of workers tell the dashboard's API (/api/train/v2/runs/v1) how they stand. The actor that keeps it would
    # outlive the run on a cluster that is joined, whose owner may turn it on.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # Nothing listens on a network: a node that is none of a cluster has the address 127.0.0.1. Its name tells where
    # Ray has it so by default; it counts on Linux as well.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A started or joined cluster."""

    resources: ClusterResources
    dashboard: str | None
    token_path: Path


def set_environment(address: str | None) -> None:
    """Set what Ray reads from the environment. Call it before anything imports Ray, which keeps what it has read."""
    for name, value in (_ENVIRONMENT | ({} if address else _LOCAL_ENVIRONMENT)).items():
        os.environ.setdefault(name, value)
    if address and token_path().is_file():
        # A cluster that was started beside this token asks for it, and a driver that joins does not offer it by itself.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def start(
    address: str | None, verbose: bool, modules: Sequence[str] = (), metadata: Mapping[str, str] | None = None
) -> Cluster:
    """Start Ray on this machine, or join the cluster at `address`; UserError when it cannot be reached.

    `modules`: folders of packages and files of modules that the experiment names by import path; they are shipped.
    `metadata`: what Ray's dashboard says of the run.
    """
    import ray
    from ray.job_config import JobConfig

    options: dict[str, Any] = {"log_to_driver": True, "configure_logging": True}
    options["job_config"] = JobConfig(metadata=dict(metadata or {}))
    options["logging_level"] = logging.INFO if verbose else logging.WARNING
    if address and _own:
        raise UserError(
            f"--address {address}: expected a process without a cluster of its own before, got one whose Ray is bound "
            "to this machine; join from a new one"
        )
    if address:
        options |= {"address": address}
    else:
        # "local": never a cluster that the environment happens to name.
        sessions = session_folder()
        options |= {"address": "local", "include_dashboard": True, "_temp_dir": str(sessions)}
        keep_token_private()
        options |= {"runtime_env": {"py_modules": [*modules]}} if modules else {}
        _name_cluster()
    try:
        with ExitStack() as stack:
            if address:
                _check_listens(address)
                staged = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="next-vector-")))
                options["runtime_env"] = {**stage(staged, modules), "env_vars": _ENVIRONMENT}
            else:
                stack.enter_context(agents_that_end(sessions))
            context = ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--address {address}: expected a Ray cluster, got {first}; "
            "start one, check its token (RAY_AUTH_MODE), or leave --address out"
        ) from error
    if address:
        check_nodes(ray.nodes())
    url = context.address_info.get("webui_url") or context.dashboard_url
    resources = offered(ray.nodes(), joined=address is not None)
    return Cluster(resources=resources, dashboard=f"http://{url}" if url else None, token_path=token_path())


def stage(folder: Path, modules: Sequence[str]) -> dict[str, Any]:
    """Copy what is shipped to the nodes into a folder, and return what Ray needs to know of it.

    The packages' own files go, and nothing that somebody put beside them. A working directory of its own keeps Ray from
    looking on each node at the driver's path first, where an old checkout may lie.
    """
    root = Path(__file__).parents[2]
    sources = [*(root / name for name in PACKAGES), *map(Path, modules)]
    for source in sources:
        for file in source.rglob("*") if source.is_dir() else [source]:
            if file.suffix in SHIPPED and "__pycache__" not in file.parts:
                copy = folder / "modules" / file.relative_to(source.parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    here = folder / "here"
    here.mkdir()
    (here / "next-vector.txt").write_text("The working directory of a run's processes.\n", encoding="utf-8")
    shipped = [str(folder / "modules" / source.name) for source in sources]
    return {"working_dir": str(here), "py_modules": shipped}


def resolve_address(given: str | None) -> tuple[str | None, str]:
    """Return the cluster to join, None for one of our own, and what to say of it.

    RAY_ADDRESS counts where --address is not given: Ray sets it inside a job that was submitted to a cluster.

    Raises:
        UserError: it is an address of Ray Client, which cannot run a whole experiment.
    """
    named = os.environ.get("RAY_ADDRESS")
    named = None if named in ("", "local", _own.get("address")) else named
    address, where = (given, "--address") if given else (named, "RAY_ADDRESS")
    if address is None:
        return None, ""
    if "://" in address:
        raise UserError(
            f"{where} {address}: expected host:port or auto, got another protocol; start the command on a node of the "
            "cluster, or submit it there: ray job submit -- python -m orchestrator.launch ..."
        )
    return address, f"cluster   {address}, as {where} says"


def check_run_folder(path: Path) -> str:
    """Return a warning where a run folder would be lost with Ray's own files; UserError where it is no local path."""
    if "://" in str(path) or re.match(r"^[a-z0-9]+:/", str(path)):
        raise UserError(
            f"--run-dir {path}: expected a local folder, got an address; give a folder, and the address as mirror"
        )
    if any(part.startswith("_ray_pkg_") or part == "runtime_resources" for part in path.resolve().parts):
        return f"warning: {path.resolve()} lies in Ray's package cache and may be removed; give an absolute --run-dir"
    return ""


def _check_listens(address: str) -> None:
    """Raise OSError where no head answers; Ray itself would try for two minutes, or for ever where another listens."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit() or int(port) >= 65_536:
        return
    until = time.monotonic() + LISTEN_S
    socket.create_connection((host, int(port)), timeout=LISTEN_S).close()

    import grpc
    from ray._private.gcs_utils import create_gcs_channel

    channel = create_gcs_channel(f"{host}:{port}")
    try:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        ask(b"", timeout=max(until - time.monotonic(), 1.0), wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise ConnectionError(f"one that asks for another token than {token_path()}") from None
        raise ConnectionError(f"no answer of one ({error.code().name.lower()})") from None
    finally:
        channel.close()


def _name_cluster() -> None:
    """Tell the processes of the cluster that is about to start where it is, by choosing its port.

    Ray Train asks Ray's state API whether a trial's controller lives. Without an address that API takes any cluster it
    finds on the machine, or the last one that `ray start` wrote down. When that one was dead, every trial's end took 12
    s.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ["RAY_GCS_SERVER_PORT"] = str(port)
    os.environ["RAY_ADDRESS"] = _own["address"] = f"127.0.0.1:{port}"


def offered(nodes: list[dict[str, Any]], *, joined: bool = False) -> ClusterResources:
    """Return what the living nodes offer, from Ray's list of nodes."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return ClusterResources(
        nodes=tuple(
            Node(cpus=node.get("CPU", 0.0), gpus=_num_gpus(node), memory_gib=node.get("memory", 0.0) / GIB)
            for node in alive
        ),
        joined=joined,
    )


def _num_gpus(resources: Mapping[str, float]) -> float:
    """Return a node's GPUs for CUDA: Ray counts that of an Apple chip too, which trials share as `mps`."""
    return 0.0 if any(map(_APPLE_CHIP.fullmatch, resources)) else resources.get("GPU", 0.0)


def beside_driver() -> Any:
    """Return the strategy that keeps an actor on the driver's node, which sees payload, index file and run folder."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def num_placement_groups() -> int:
    """Return how many placement groups hold resources: after the trials, one left over would starve the next."""
    from ray.util import placement_group_table

    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


def local_resources() -> ClusterResources:
    """Return what this machine would offer, without starting Ray (`--dry-run`)."""
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus, get_system_memory

    gpus = 0
    if not has_mps():  # see `_num_gpus`
        manager = get_accelerator_manager_for_resource("GPU")
        gpus = manager.get_current_node_num_accelerators()
        visible = manager.get_current_process_visible_accelerator_ids()
        if visible is not None:
            gpus = min(gpus, len(visible))
    cpus = float(get_num_cpus())
    # Ray offers what remains of the memory after its object store, 30 % by default.
    memory = 0.7 * get_system_memory() / GIB
    return ClusterResources(nodes=(Node(cpus=cpus, gpus=float(gpus), memory_gib=memory),))


def ask(address: str) -> ClusterResources:
    """Return what the cluster at an address offers, and leave it again (`--dry-run`). Call `set_environment` before."""
    import ray

    try:
        return start(address, verbose=False).resources
    finally:
        ray.shutdown()


def has_mps() -> bool:
    """Return whether this machine has Apple's GPU, without importing torch."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


@contextmanager
def chatter_to(log: Path, stream: TextIO, verbose: bool) -> Iterator[TextIO]:
    """Send everything that this process and Ray's libraries print to `log`; yield what still reaches `stream`.

    Done at the level of file descriptors, since Ray's C++ core prints too. With `verbose` nothing is redirected.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if verbose:
        yield stream
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    try:
        with log.open("a", encoding="utf-8", buffering=1) as file, ExitStack() as stack:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            if _writes_to_descriptor(stream, 1):
                stream = stack.enter_context(os.fdopen(os.dup(saved[0]), "w", encoding="utf-8", buffering=1))
            if not _writes_to_descriptor(sys.stdout, 1):  # a notebook's: what is printed there passes by descriptors
                stack.enter_context(redirect_stdout(file))
                stack.enter_context(redirect_stderr(file))
            yield stream
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        os.close(saved[0])
        os.close(saved[1])


def _writes_to_descriptor(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):
        return False
