"""Whether a node is being taken away, as the cluster's head says."""

from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import RpcError

from orchestrator.trials import inside
from orchestrator.trials.inside import DrainNotice


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch, stopped_clock: Any) -> Any:
    """The head's answer, `asked`, and the clock, `now`."""
    clock = stopped_clock("orchestrator.trials.inside")
    clock.monotonic = lambda: clock.now
    clock.asked = Mock(return_value={})
    monkeypatch.setattr(inside.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(inside.ray, "get_runtime_context", lambda: Mock(get_node_id=lambda: "here"))
    monkeypatch.setattr(inside.cluster_state, "get_draining_nodes", clock.asked)
    return clock


def test_the_head_is_asked_once_a_second(head: Any) -> None:
    notice = DrainNotice()
    found = []
    for _ in range(8):
        head.now += 0.25
        found.append(notice.came())
    assert found == [False] * 8
    assert head.asked.call_count == 2


@pytest.mark.parametrize(("draining", "came"), [({"here": 0}, True), ({"elsewhere": 5}, False)])
def test_only_the_own_node_counts(head: Any, draining: dict[str, int], came: bool) -> None:
    notice = DrainNotice()
    head.asked.return_value = draining
    head.now += 1.0
    assert notice.came() == came


def test_a_head_that_does_not_answer_ends_no_training(head: Any) -> None:
    notice = DrainNotice()
    head.asked.side_effect = RpcError("gone")
    head.now += 1.0
    assert not notice.came()


def test_without_a_cluster_there_is_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.ray, "is_initialized", lambda: False)
    assert not DrainNotice().came()
