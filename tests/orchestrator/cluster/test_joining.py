"""What is refused before a cluster is joined."""

import socket

import pytest

from data.errors import UserError
from orchestrator.cluster import start as cluster


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
