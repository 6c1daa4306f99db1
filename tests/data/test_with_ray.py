"""Stream and embedding through a small real Ray: the only module of this folder that starts one."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.corpus.embedders import embed_wordllama
from data.corpus.shards import ray_runner
from data.windows.stream import build_stream, epoch_order, iter_epochs, order_digest

NUM_WINDOWS = 1000


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    """Start one small Ray for the tests of this module."""
    import ray

    root = str(Path(__file__).parents[2])
    ray.init(
        address="local",  # never a cluster that happens to run on this machine
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}},
    )
    yield ray
    ray.shutdown()


def summarise(shard: Any, epochs: range, batch_size: int) -> list[tuple[int, int, str]]:
    """Return (epoch, number of batches, digest) for each epoch, as a worker would see them."""
    result = []
    for epoch, batches in iter_epochs(shard, NUM_WINDOWS, batch_size, epochs):
        count = sum(len(batch) == batch_size and batch.flags.writeable for batch in batches)
        result.append((epoch, count, batches.digest))
    return result


def expected(epochs: range, batch_size: int) -> list[tuple[int, int, str]]:
    return [(epoch, NUM_WINDOWS // batch_size, order_digest(epoch_order(NUM_WINDOWS, 7, epoch))) for epoch in epochs]


@pytest.mark.ray
def test_the_stream_gives_every_epoch_in_its_own_order(local_ray: Any) -> None:
    stream = build_stream(NUM_WINDOWS, seed=7, epochs=range(4), block_rows=256)
    assert stream.schema().names == ["window", "epoch"]
    assert stream.num_blocks() == 4 * 4
    assert summarise(stream, range(4), 64) == expected(range(4), 64)
    assert local_ray.util.list_named_actors(all_namespaces=True) == []  # an execution of Ray Data starts two


@pytest.mark.ray
def test_two_workers_that_hold_every_cpu_read_the_same_whole_stream(local_ray: Any) -> None:
    stream = build_stream(NUM_WINDOWS, seed=7, epochs=range(3), block_rows=300)

    @local_ray.remote(num_cpus=1)
    class Worker:
        def ready(self) -> bool:
            return True

        def read(self, shard: Any, batch_size: int) -> tuple[list[tuple[int, int, str]], bool]:
            return summarise(shard, range(3), batch_size), "torch" in sys.modules

    workers = [Worker.remote() for _ in range(2)]
    local_ray.get([worker.ready.remote() for worker in workers])
    assert local_ray.available_resources().get("CPU", 0) == 0
    found = local_ray.get([worker.read.remote(stream, 50) for worker in workers], timeout=60)
    assert found == [(expected(range(3), 50), False)] * 2
    for worker in workers:
        local_ray.kill(worker)


@pytest.mark.ray
def test_a_resumed_trial_sees_the_orders_that_it_would_have_seen(local_ray: Any) -> None:
    stream = build_stream(NUM_WINDOWS, seed=7, epochs=range(4), block_rows=256)
    for shard in (stream, stream.iterator()):  # of a trial of one worker, of a worker group
        assert summarise(shard, range(2, 4), 64) == expected(range(2, 4), 64)


@pytest.mark.ray
def test_stopping_early_leaves_no_executor_and_a_stream_can_be_read_again(local_ray: Any) -> None:
    stream = build_stream(NUM_WINDOWS, seed=7, epochs=range(20), block_rows=64)
    before = {thread.name for thread in threading.enumerate()}
    with closing(iter_epochs(stream, NUM_WINDOWS, 32, range(20))) as epochs:
        next(iter(next(epochs)[1]))
    left = {thread.name for thread in threading.enumerate()} - before
    assert not [name for name in left if "xecutor" in name or "atch" in name], left
    assert summarise(stream, range(20), 100) == expected(range(20), 100)


@pytest.mark.ray
def test_ray_data_keeps_its_order_and_prints_nothing(local_ray: Any) -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.execution_options.preserve_order = True, False
    logging.getLogger("ray.data").setLevel(logging.INFO)
    stream = build_stream(NUM_WINDOWS, seed=7, epochs=range(1))
    assert not stream.context.enable_progress_bars
    assert stream.context.execution_options.preserve_order
    assert not logging.getLogger("ray.data").isEnabledFor(logging.WARNING)


@pytest.mark.ray
def test_ray_embeds_the_same_as_this_process(local_ray: Any) -> None:
    shards = [(number, [f"{word} {number}" for word in ("one", "two", "three")]) for number in range(5)]
    found = dict(ray_runner(shards, "wordllama"))
    assert sorted(found) == list(range(5))
    for number, texts in shards:
        np.testing.assert_array_equal(found[number], embed_wordllama(texts))


@pytest.mark.ray
@pytest.mark.parametrize(
    ("embedder", "texts", "message"),
    [
        ("no/such", ["one"], r"^embedder: expected .*'no/such'"),
        ("wordllama", ["one", ""], r"^texts\[1\]: expected at least one token, got ''; leave it out$"),
    ],
)
def test_what_an_embedder_refuses_on_ray_is_one_line(
    local_ray: Any, embedder: str, texts: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        dict(ray_runner([(0, texts)], embedder))
    assert len(str(refused.value).splitlines()) == 1
