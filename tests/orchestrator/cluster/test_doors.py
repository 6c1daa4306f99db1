"""A launch's own cluster cannot be reached from another machine."""

import json
import socket
import subprocess
import sys

import pytest

from data.errors import UserError
from orchestrator.cluster import start as cluster
from tests.orchestrator.launches import REPOSITORY

PROGRAM = """
import json
from orchestrator.cluster.start import set_environment, start

set_environment(None)
start(None, verbose=False, metadata={"experiment": "debug"})

import psutil, ray
from ray.util.state import list_jobs

ray.get(ray.remote(lambda: None).remote())  # a worker listens, too
family = [psutil.Process(), *psutil.Process().children(recursive=True)]
doors = [(one.name(), door.laddr.ip) for one in family for door in one.net_connections() if door.status == "LISTEN"]
metadata = [job.metadata for job in list_jobs(detail=True)]
print(json.dumps({"doors": doors, "metadata": metadata}))
"""


@pytest.mark.ray
def test_a_local_cluster_listens_on_this_machine_alone_and_its_jobs_page_names_the_experiment() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(told.stdout.splitlines()[-1])
    doors = found["doors"]
    assert {"gcs_server", "raylet"} <= {process for process, _ in doors}
    assert {address for _, address in doors} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert found["metadata"] == [{"experiment": "debug"}]


def test_where_somebody_else_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LISTEN_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        expected = rf"--address {address}: expected a Ray cluster, got no answer of one \(deadline_exceeded\)"
        with pytest.raises(UserError, match=expected):
            cluster.start(address, verbose=False)


def test_a_process_that_had_a_cluster_of_its_own_joins_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cluster._own, "address", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"--address head:6379: expected a process without a cluster of its own before"):
        cluster.start("head:6379", verbose=False)
