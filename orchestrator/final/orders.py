"""The proof that all trials saw the same windows in the same order: each epoch's digest against the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.windows.stream import epoch_order, order_digest


def check_orders(
    records: Mapping[str, Sequence[Mapping[str, Any]]], num_windows: int, seeds: Mapping[str, int]
) -> dict[str, Any]:
    """Return how many trials and epochs were compared, and the names of the trials whose order was another one.

    Args:
        records: The epochs of every trial by its name; one that was not read to its end has no `order_digest`.
        num_windows: Training windows.
        seeds: Of every trial by its name.
    """
    read = {
        name: {line["epoch"]: line["order_digest"] for line in lines if "order_digest" in line}
        for name, lines in records.items()
    }
    epochs = {(seeds[name], epoch) for name, found in read.items() for epoch in found}
    expected = {(seed, epoch): order_digest(epoch_order(num_windows, seed, epoch)) for seed, epoch in epochs}
    differing = [
        name
        for name, found in read.items()
        if any(digest != expected[seeds[name], epoch] for epoch, digest in found.items())
    ]
    num_epochs = len({epoch for _, epoch in epochs})
    return {"trials": sum(bool(found) for found in read.values()), "epochs": num_epochs, "differing": differing}
