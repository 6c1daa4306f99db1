"""How often a trial is tried again."""

import pytest

from orchestrator.training.retries import Retries

NODE = "ray.exceptions.ActorDiedError: The actor died because its node has died. Node Id: ab"

CONNECTION = "The actor 63 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: Socket closed"


def test_an_error_counts_against_the_trials_own_limit() -> None:
    retries = Retries({"a": 1, "b": 0})
    assert retries.again("a", "ValueError: x", 1)
    assert not retries.again("a", "ValueError: x", 2)
    assert not retries.again("b", "ValueError: x", 0)


@pytest.mark.parametrize("error", [NODE, CONNECTION])
def test_the_loss_of_a_node_does_not_count(error: str) -> None:
    retries = Retries({"a": 1})
    assert [retries.again("a", error, epoch) for epoch in (0, 1, 3, 4)] == [True] * 4
    assert retries.again("a", "ValueError: x", 4)
    assert not retries.again("a", "ValueError: x", 4)


def test_a_trial_that_loses_node_after_node_without_an_epoch_ends() -> None:
    retries = Retries({"a": 1})
    assert [retries.again("a", NODE, 2) for _ in range(5)] == [True, True, True, True, False]
