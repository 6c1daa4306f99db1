"""The training loop of one trial's worker: batches in; an epoch's record, checkpoints and smoke evaluations out.

Rank 0 validates, evaluates, writes and judges; the other ranks train and follow its word. Imported by workers only,
since it needs torch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import ray
import torch

from data.payload.duplicates import duplicate_ids
from data.windows.queries import smoke_queries
from data.windows.stream import EpochBatches, iter_epochs
from data.windows.table import load_windows, sample_queries
from models.cpu.memory import keep_freed_memory
from models.training.checkpoint import load_training_state, save_model, save_training_state
from models.training.negatives import ArticleNegatives
from orchestrator.cluster.payload_share import open_arrays
from orchestrator.gates import Epoch, best_epoch
from orchestrator.run.ledger import VariantFolder, append_line, epoch_of, finite, write_json
from orchestrator.trials.learner import GatherTable, Learner
from orchestrator.trials.setup import TrialSetup, to_report

Report = Callable[[dict[str, Any]], None]


class Stopwatch:
    """Seconds of one epoch by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Add the block's wall time to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def train(setup: TrialSetup, *, shard: Any, report: Report, rank: int, num_workers: int, device: torch.device) -> None:
    """Train the setup's variant to its end, from its last checkpoint if it has one.

    Args:
        setup: what to train on what.
        shard: the Ray Data iterator over row numbers of windows, in each epoch's order.
        report: called by every rank once an epoch; rank 0 hands over {"record": ...}.
        rank, num_workers: this worker among the trial's.
        device: where the model lives.
    """
    torch.set_num_threads(setup.cpus_per_worker)
    keep_freed_memory()
    started = time.time()
    run = _Run(setup, rank, num_workers, device)
    first_epoch = run.resume() + 1
    if run.ended:
        report({})
        return
    epochs = range(first_epoch, setup.training.epochs + 1)
    with closing(iter_epochs(shard, len(run.train_rows), setup.training.batch_size, epochs)) as stream:
        for epoch, batches in stream:
            began = time.time()
            record = run.train_epoch(batches)
            if epoch == first_epoch:
                record |= {"started_at": started, "first_epoch_at": began, "first_step_at": run.first_step_at}
            if rank == 0:
                run.conclude(record)
            report(to_report(finite(record)) if rank == 0 else {})
            if run.everyone_agrees_to_end():
                break


class _Run:
    """One worker's share of a trial."""

    def __init__(self, setup: TrialSetup, rank: int, num_workers: int, device: torch.device) -> None:
        self.setup = setup
        self.rank, self.num_workers = rank, num_workers
        self.folder = VariantFolder(setup.folder)
        sha256 = setup.provenance["payload_sha256"]
        payload = open_arrays(setup.payload_path, sha256, setup.evaluator)
        splits = load_windows(setup.windows_path, payload_sha256=sha256)
        self.train_rows = splits.train.rows
        self.val_rows = sample_queries(splits.val, setup.training.val_windows, setup.seed).rows
        self.smoke_rows = smoke_queries(splits, setup.num_smoke_queries, setup.seed).rows
        table = GatherTable(payload.vectors, duplicate_ids(payload.vectors), device)
        self.learner = Learner(
            setup.variant,
            table,
            ArticleNegatives(payload.article_index, setup.training.loss.article_negatives),
            context_length=self.train_rows.shape[1] - 1,
            total_steps=setup.training.epochs * (len(self.train_rows) // setup.training.batch_size),
            seed=setup.seed,
            rank=rank,
            num_workers=num_workers,
        )
        self.records: list[dict[str, Any]] = []
        self.first_step_at: float | None = None
        self.ended = False

    def resume(self) -> int:
        """Load the last checkpoint; return its epoch, 0 for a fresh start."""
        epoch = 0
        if self.folder.last.is_file():
            state = load_training_state(self.folder.last)
            self.learner.load_state(state)
            epoch, self.records = state["epoch"], json.loads(state["records"])
            self.ended = self.setup.rules.ends([epoch_of(record) for record in self.records])
        if self.rank == 0:
            # The checkpoint carries its records: a crash between the two files loses none and doubles none.
            self.folder.rewrite(self.records)
        return epoch

    def train_epoch(self, batches: EpochBatches) -> dict[str, Any]:
        """Train one epoch; return its record so far: losses, digest of the order, windows seen, seconds."""
        epoch = batches.epoch
        self.learner.start_epoch(epoch)
        watch = Stopwatch()
        sums: dict[str, float] = {}
        num_steps = 0
        diverged = None
        iterator = iter(batches)
        while True:
            with watch.time("data"):
                batch = next(iterator, None)
            if batch is None:
                break
            with watch.time("step"):
                result = self.learner.step(self.train_rows[batch])
            self.first_step_at = self.first_step_at or time.time()
            num_steps += 1
            if not math.isfinite(result["grad_norm"]):
                diverged = (
                    f"loss {result['loss']:.4g}, gradient norm {result['grad_norm']:.4g} "
                    f"at step {num_steps} of epoch {epoch}"
                )
                break
            for name, value in result.items():
                sums[name] = sums.get(name, 0.0) + value
        means = self._average({name: value / max(1, num_steps) for name, value in sums.items()})
        record = {"epoch": epoch, "steps": self.learner.steps, **means, "seconds": watch.seconds}
        record["precision"] = self.learner.precision
        record["windows_seen"] = self.learner.steps * self.setup.training.batch_size
        if diverged is not None:
            return {**record, "diverged": diverged}
        return {**record, "order_digest": batches.digest}

    def _average(self, means: dict[str, float]) -> dict[str, float]:
        """Return the means over all workers: each saw the losses of its own windows only."""
        if self.num_workers == 1 or not means:
            return means
        values = torch.tensor(list(means.values()), dtype=torch.float32, device=self.learner.table.device)
        torch.distributed.all_reduce(values)
        return dict(zip(means, (values / self.num_workers).tolist(), strict=True))

    def conclude(self, record: dict[str, Any]) -> None:
        """Validate, evaluate, write the checkpoints and the record; note whether the trial ends here (rank 0)."""
        watch = Stopwatch()
        if "diverged" not in record:
            with watch.time("validate"):
                record |= self.learner.validate(self.val_rows)
            if record["epoch"] in self.setup.smoke_epochs:
                with watch.time("smoke"):
                    record["smoke"] = self._smoke(record["epoch"])
        self.records.append(record)
        history = [epoch_of(finite(item)) for item in self.records]
        self.ended = self.setup.rules.ends(history)
        with watch.time("checkpoint"):
            if "diverged" not in record:
                self._save(record, is_best=best_epoch(history, self.setup.selection).epoch == record["epoch"])
        record["seconds"] |= watch.seconds
        append_line(self.folder.metrics, record)

    def _save(self, record: dict[str, Any], *, is_best: bool) -> None:
        if is_best:
            scores = {name: value for name, value in record.items() if name.startswith("val_")}
            save_model(
                self.folder.best,
                self.learner.model,
                epoch=record["epoch"],
                metrics=scores,
                provenance=self.setup.provenance,
            )
        state = {"epoch": record["epoch"], "records": json.dumps(finite(self.records)), **self.learner.state()}
        save_training_state(self.folder.last, state)

    def _smoke(self, epoch: int) -> dict[str, float]:
        """Send predictions for the smoke sample to the evaluation actor; return the metrics and keep them on disk."""
        predictions = self.learner.predict(self.smoke_rows)
        answer = ray.get(
            self.setup.evaluator.evaluate.remote(
                self.setup.variant.name,
                "smoke",
                predictions,
                latency_queries=self.setup.smoke_latency_queries,
                latency_limit_ms=self.setup.latency_limits_ms.get(epoch),
            )
        )
        metrics: dict[str, float] = answer["metrics"]
        kept = {"epoch": epoch, "metrics": metrics, "ci": answer["ci"]}
        if (
            self.setup.rules.ends([Epoch(epoch=epoch, metrics={}, smoke=metrics)])
            and epoch < self.setup.training.epochs
        ):
            kept["triage"] = ray.get(self.setup.evaluator.triage.remote("smoke", predictions))
        write_json(self.folder.smoke(epoch), kept)
        return metrics

    def everyone_agrees_to_end(self) -> bool:
        """Return rank 0's word on whether the trial ends after this epoch."""
        if self.num_workers == 1:
            return self.ended
        word = torch.tensor([int(self.ended)], device=self.learner.table.device)
        torch.distributed.broadcast(word, src=0)
        return bool(word.item())
