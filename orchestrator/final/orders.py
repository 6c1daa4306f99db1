"""The proof that all trials saw the same windows in the same order: each epoch's digest against the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.windows.stream import epoch_order, order_digest


def check_orders(records: Mapping[str, Sequence[Mapping[str, Any]]], num_windows: int, seed: int) -> dict[str, Any]:
    """Return how many trials and epochs were compared, and the names of the trials whose order was another one.

    Args:
        records: The epochs of every trial by its name; one that was not read to its end has no `order_digest`.
        num_windows: Training windows.
        seed: Of the run.
    """
    read = {
        name: {line["epoch"]: line["order_digest"] for line in lines if "order_digest" in line}
        for name, lines in records.items()
    }
    epochs = {epoch for found in read.values() for epoch in found}
    expected = {epoch: order_digest(epoch_order(num_windows, seed, epoch)) for epoch in epochs}
    differing = [name for name, found in read.items() if any(digest != expected[e] for e, digest in found.items())]
    return {"trials": sum(bool(found) for found in read.values()), "epochs": len(epochs), "differing": differing}
