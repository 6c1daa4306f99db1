"""The stream of row numbers without Ray: orders, cutting, counting; test_with_ray.py has the rest."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from data.windows.stream import epoch_order, iter_epochs, order_digest


class FakeShard:
    """Blocks in a list, with the one method of Ray Data that the worker's side uses."""

    def __init__(self, *blocks: tuple[int, list[int]]) -> None:
        self.blocks = blocks
        self.closed = False

    def iter_batches(self, **_: object) -> Iterator[dict[str, np.ndarray]]:
        self.iterator = self._iterate()  # held here, so that only close() ends it
        return self.iterator

    def _iterate(self) -> Iterator[dict[str, np.ndarray]]:
        try:
            for epoch, windows in self.blocks:
                yield {"window": np.array(windows, np.int32), "epoch": np.full(len(windows), epoch, np.int16)}
        finally:
            self.closed = True


def read(shard: Any, num_windows: int, batch_size: int, epochs: range) -> dict[int, list[list[int]]]:
    return {
        epoch: [batch.tolist() for batch in batches]
        for epoch, batches in iter_epochs(shard, num_windows, batch_size, epochs)
    }


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    order = epoch_order(100, seed=1, epoch=0)
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == list(range(100))
    assert order.tolist() == epoch_order(100, seed=1, epoch=0).tolist()
    others = [epoch_order(100, seed=1, epoch=1), epoch_order(100, seed=2, epoch=0)]
    assert len({order_digest(each) for each in (order, *others)}) == 3


def test_the_digest_is_the_head_of_the_sha256_of_little_endian_int32() -> None:
    import hashlib

    assert order_digest(np.array([1, 256], np.int32)) == hashlib.sha256(b"\1\0\0\0\0\1\0\0").hexdigest()[:16]


def test_blocks_of_any_size_are_cut_into_batches_and_the_short_last_one_is_left_out() -> None:
    shard = FakeShard((0, [4, 0, 1]), (0, [3]), (0, [2, 5, 6]), (1, [0, 1, 2, 3, 4]), (1, [5, 6]))
    assert read(shard, 7, 2, range(2)) == {0: [[4, 0], [1, 3], [2, 5]], 1: [[0, 1], [2, 3], [4, 5]]}


def test_rows_left_out_still_count_in_the_digest() -> None:
    shard = FakeShard((0, [4, 0, 1]), (0, [3, 2]))
    for _, batches in iter_epochs(shard, 5, 2, range(1)):
        assert batches.num_batches == len(list(batches)) == 2
        assert batches.digest == order_digest(np.array([4, 0, 1, 3, 2], np.int32))


def test_an_epoch_left_early_does_not_shift_the_next_one() -> None:
    shard = FakeShard((0, [0, 1]), (0, [2, 3]), (1, [3, 2]), (1, [1, 0]))
    seen = list(iter_epochs(shard, 4, 2, range(2)))
    assert [batches.digest for _, batches in seen] == [
        order_digest(np.array(rows, np.int32)) for rows in ([0, 1, 2, 3], [3, 2, 1, 0])
    ]
    first = [next(iter(batches)).tolist() for _, batches in iter_epochs(shard, 4, 2, range(2))]
    assert first == [[0, 1], [3, 2]]


def test_earlier_epochs_are_passed_over() -> None:
    shard = FakeShard((0, [0, 1]), (1, [1, 0]), (2, [0, 1]))
    assert read(shard, 2, 2, range(1, 3)) == {1: [[1, 0]], 2: [[0, 1]]}


def test_closing_early_closes_the_iterator_behind_it() -> None:
    shard = FakeShard((0, [0, 1]), (0, [2, 3]))
    with closing(iter_epochs(shard, 4, 2, range(1))) as epochs:
        next(iter(next(epochs)[1]))
        assert not shard.closed
    assert shard.closed


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(0, [0, 1, 2])], "expected 4 windows in epoch 0, got 3"),
        ([(0, [0, 1, 2]), (1, [3])], "expected rows of epoch 0, got rows of epoch 1"),
        ([(0, [0, 1, 2, 3, 4])], "expected 4 windows in epoch 0, got 5"),
        ([], "expected 4 windows in epoch 0, got 0"),
    ],
)
def test_a_stream_of_another_length_or_order_is_an_error(blocks: list[Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        read(FakeShard(*blocks), 4, 2, range(1))


@pytest.mark.parametrize("batch_size", [0, 5])
def test_a_batch_larger_than_the_table_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size: expected 1 to 4, the number of training windows, got"):
        read(FakeShard(), 4, batch_size, range(1))


def test_importing_the_module_is_light() -> None:
    code = "import sys, data.windows.stream; assert not {'ray', 'torch', 'pyarrow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
