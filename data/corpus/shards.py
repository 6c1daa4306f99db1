"""Embed many texts in shards: in parallel on a Ray cluster, and never a shard twice.

A folder beside the result holds plan.json (what is embedded, and how) and one file for each finished shard. After a
stop the same call embeds only the missing shards; with another plan it refuses. A shard's file appears only when it is
complete.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from data.corpus.embedders import Embedder, load_embedder
from data.errors import UserError
from data.interpreter import check_interpreter
from data.io import read_json, replacing, write_json
from data.output import remove_made, write_marker

KIND = "folder of shards"
"""What its marker calls it, see data.output."""
Shard = tuple[int, list[str]]
"""Number and texts of a shard."""
Vectors = NDArray[np.float32]
Runner = Callable[[list[Shard], str], Iterator[tuple[int, Vectors]]]
"""Embeds shards with the named embedder and yields each one's number and vectors, in any order."""


def embed_in_shards(
    texts: Sequence[str], folder: Path, *, embedder: str, plan: dict[str, Any], shard_texts: int, runner: Runner
) -> Vectors:
    """Embed texts into `folder`, going on where an earlier run stopped; (N, D) float32, mapped from disk.

    Raises:
        UserError: the folder belongs to another plan, or the embedder refuses its name or a text.
    """
    starts = range(0, len(texts), shard_texts)
    _check_plan(folder, {**plan, "num_texts": len(texts), "shard_texts": shard_texts}, len(starts))
    missing = [number for number in range(len(starts)) if not _shard_file(folder, number).is_file()]
    shards = [(number, list(texts[starts[number] : starts[number] + shard_texts])) for number in missing]
    if shards:
        try:
            results = runner(shards, embedder)  # starts Ray, which is no part of the rate
            progress = Progress(total=len(texts), done=len(texts) - sum(len(part) for _, part in shards))
            with closing(progress):
                progress.show()
                for number, vectors in results:
                    _save_shard(_shard_file(folder, number), vectors)
                    progress.advance(len(vectors))
        except UserError:
            if not any(_shard_file(folder, number).is_file() for number in range(len(starts))):
                remove_made(folder, KIND)  # a plan of nothing would only stand in the way of the next one
            raise
    return _join(folder, len(texts), len(starts))


def local_runner(shards: list[Shard], embedder: str) -> Iterator[tuple[int, Vectors]]:
    """Embed in this process, one shard after the other."""
    loaded = load_embedder(embedder)
    for number, texts in shards:
        yield number, loaded.embed(texts)


def ray_runner(shards: list[Shard], embedder: str) -> Iterator[tuple[int, Vectors]]:
    """Embed with a Ray Data map over the shards: one task a CPU of the cluster at a time.

    Tasks, not actors: a worker process runs many tasks and keeps its embedder, and a task of a lost node runs again.
    """
    import pyarrow as pa
    import ray.data

    from data.windows.stream import quiet_ray_data

    if not ray.is_initialized():
        check_interpreter()
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    quiet_ray_data()
    tables = [pa.table({"shard": [number], "texts": [texts]}) for number, texts in shards]
    embedded = ray.data.from_arrow(tables).map_batches(
        _embed_shard, fn_args=[embedder], batch_size=1, batch_format="pyarrow", num_cpus=1
    )
    return (_unpack(batch) for batch in embedded.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))


def _unpack(batch: Any) -> tuple[int, Vectors]:
    if refusal := batch["refusal"][0].as_py():
        raise UserError(refusal)
    dim, content = batch["dim"][0].as_py(), batch["vectors"][0].as_py()
    return batch["shard"][0].as_py(), np.frombuffer(content, np.float32).reshape(-1, dim)


def _embed_shard(batch: Any, embedder: str) -> Any:
    """Embed one row, which is one shard; its vectors are bytes, since Ray splits a tensor by row.

    A UserError comes back as the text `refusal`: if it were raised here, Ray would print pages around it.
    """
    import pyarrow as pa

    refusal = ""
    try:
        vectors = _loaded(embedder).embed(batch["texts"][0].as_py())
    except UserError as error:
        refusal, vectors = str(error), np.empty((0, 0), np.float32)
    columns = {"dim": [vectors.shape[1]], "vectors": [vectors.tobytes()], "refusal": [refusal]}
    return pa.table({"shard": batch["shard"], **columns})


@lru_cache(maxsize=1)
def _loaded(embedder: str) -> Embedder:
    """Load an embedder once a process."""
    return load_embedder(embedder)


@dataclass(slots=True)
class Progress:
    """Rate and time left: one line that is rewritten on a terminal, at most twenty lines elsewhere."""

    total: int
    done: int
    out: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _began: float = 0.0
    _at_start: int = 0
    _shown: int = -1

    def __post_init__(self) -> None:
        self._began, self._at_start = self.clock(), self.done

    def advance(self, num: int) -> None:
        """Count texts that were embedded."""
        self.done += num
        self.show()

    def show(self) -> None:
        """Write the line when it is due."""
        step = 20 * self.done // max(1, self.total)
        if self.out.isatty():
            self.out.write(f"\r{self.line()}\x1b[K")
        elif step > self._shown:
            self.out.write(f"{self.line()}\n")
        self._shown = step
        self.out.flush()

    def close(self) -> None:
        """End the line on a terminal."""
        if self.out.isatty():
            self.out.write("\n")

    def line(self) -> str:
        """Say how many texts are done, how fast, and how long the rest takes."""
        elapsed, fresh = self.clock() - self._began, self.done - self._at_start
        text = f"embedding {self.done:,} of {self.total:,} ({self.done / max(1, self.total):.0%})"
        if fresh == 0 or elapsed <= 0:
            return text
        rate = fresh / elapsed
        return f"{text}, {rate:,.0f}/s, {(self.total - self.done) / rate:.0f} s left"


def _shard_file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npy"


def _save_shard(file: Path, vectors: Vectors) -> None:
    with replacing(file) as opened:
        np.save(opened, vectors)


def _check_plan(folder: Path, plan: dict[str, Any], num_shards: int) -> None:
    file = folder / "plan.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_marker(folder, KIND, [file.name, "joined.npy", *(_shard_file(folder, i).name for i in range(num_shards))])
        write_json(file, plan)
        return
    found = read_json(file)
    differing = [name for name in plan if found.get(name) != plan[name]]
    if differing:
        name = differing[0]
        raise UserError(
            f"{folder}: expected shards of {name} {plan[name]!r}, got shards of {found.get(name)!r}; "
            "give the same options to go on, or delete the folder to start over"
        )


def _join(folder: Path, num_texts: int, num_shards: int) -> Vectors:
    """Join the shards in order into one file and map it; the largest thing in memory is a shard."""
    parts: Iterable[Vectors] = (np.load(_shard_file(folder, number), mmap_mode="r") for number in range(num_shards))
    joined: NDArray[np.float32] | None = None
    row = 0
    for part in parts:
        if joined is None:
            shape = (num_texts, part.shape[1])
            joined = np.lib.format.open_memmap(folder / "joined.npy", mode="w+", dtype=np.float32, shape=shape)
        joined[row : row + len(part)] = part
        row += len(part)
    assert joined is not None and row == num_texts, "every shard is there by now"
    return joined
