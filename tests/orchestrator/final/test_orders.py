"""All trials saw the same windows in the same order: what is compared, and which trial is named."""

from data.windows.stream import epoch_order, order_digest
from orchestrator.final.orders import check_orders

SEEDS = {"a": 3, "b": 3}
RIGHT = {epoch: order_digest(epoch_order(100, 3, epoch)) for epoch in (1, 2, 3)}


def epochs(*digests: str) -> list[dict[str, object]]:
    return [{"epoch": number, "order_digest": digest} for number, digest in enumerate(digests, start=1)]


def test_trials_of_different_length_saw_the_same() -> None:
    records = {"a": epochs(RIGHT[1], RIGHT[2], RIGHT[3]), "b": epochs(RIGHT[1])}
    assert check_orders(records, 100, SEEDS) == {"trials": 2, "epochs": 3, "differing": []}


def test_a_trial_with_another_order_is_named_even_when_all_agree_on_it() -> None:
    other = order_digest(epoch_order(100, 4, 1))
    assert check_orders({"a": epochs(RIGHT[1]), "b": epochs(other)}, 100, SEEDS)["differing"] == ["b"]
    assert check_orders({"a": epochs(other), "b": epochs(other)}, 100, SEEDS)["differing"] == ["a", "b"]
    assert check_orders({"a": epochs(RIGHT[1])}, 99, SEEDS)["differing"] == ["a"]


def test_an_epoch_that_was_not_read_to_its_end_proves_nothing() -> None:
    records = {"a": [*epochs(RIGHT[1]), {"epoch": 2, "diverged": "loss nan"}], "b": []}
    assert check_orders(records, 100, SEEDS) == {"trials": 1, "epochs": 1, "differing": []}
