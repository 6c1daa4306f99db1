"""What every node of a joined cluster must have in common with the driver's, asked before the first trial."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data.errors import UserError

PACKAGES = ("orchestrator", "models", "data", "evaluation")
"""Ours, as they are shipped."""
LIBRARIES = ("ray", "torch", "numpy", "faiss-cpu", "pyarrow")
GONE_S = 10
ASK_S = 120
"""A node that has not answered by then has not the packages, or no memory for a process."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What one node says of itself."""

    python: str
    versions: Mapping[str, str]
    packages: str
    """Digest of our packages, as a worker there imports them."""


def facts() -> NodeFacts:
    """Return what this process finds on its node."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name).partition("+")[0]  # builds for a CPU and for a GPU are the same code
        except PackageNotFoundError:
            found[name] = "none"
    python = ".".join(platform.python_version_tuple()[:2])
    return NodeFacts(python=python, versions=found, packages=_digest())


def _digest() -> str:
    """Return 12 hex digits over the Python files of our packages, as they are imported here."""
    from importlib import import_module

    whole = hashlib.sha256()
    for name in PACKAGES:
        folder = Path(str(import_module(name).__file__)).parent
        for file in sorted(folder.rglob("*.py")):
            whole.update(f"{name}/{file.relative_to(folder)}".encode() + file.read_bytes())
    return whole.hexdigest()[:12]


def check_nodes(nodes: list[dict[str, Any]]) -> None:
    """Ask every living node that offers CPUs or GPUs; UserError naming the first that differs from this process.

    `nodes`: Ray's list of them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    own, ask = facts(), ray.remote(facts)
    alive = [node for node in nodes if node["Alive"] and node["Resources"].keys() & {"CPU", "GPU"}]
    asked = {
        ask.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): node
        for node in alive
    }
    for reference, node in asked.items():
        name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            found = ray.get(reference, timeout=ASK_S)
        except ray.exceptions.RayError as error:
            if _is_gone(node["NodeID"]):
                continue  # it was about to be lost
            raise UserError(
                f"{name}: expected a process of this project to start there, got {_first_line(error)}; install the "
                "pinned packages there (make setup), with the same Python"
            ) from error
        compare(name, own, found)


def _is_gone(node_id: str) -> bool:
    """Return whether a node is found dead within some seconds: Ray takes a while to notice."""
    import ray

    for _ in range(GONE_S):
        if not any(node["Alive"] and node["NodeID"] == node_id for node in ray.nodes()):
            return True
        time.sleep(1)
    return False


def compare(name: str, own: NodeFacts, found: NodeFacts) -> None:
    """Raise UserError, in one line, where a node differs from the driver's."""
    if found.python != own.python:
        raise UserError(f"{name}: expected Python {own.python}, got {found.python}; start its Ray with the same one")
    for library, expected in own.versions.items():
        if (there := found.versions.get(library, "none")) != expected:
            raise UserError(
                f"{name}: expected {library} {expected}, got {there}; install the pinned packages there (make setup)"
            )
    if found.packages != own.packages:
        raise UserError(
            f"{name}: expected this project's code ({own.packages}), got another ({found.packages}); a checkout there "
            "hides the shipped one: remove it, or bring it to the same commit"
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
