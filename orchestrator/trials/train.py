"""The training of one trial: batches in; an epoch's record, checkpoints and smoke evaluations out.

The same function runs in the process that holds the trial's slot (one worker) and on every worker of a group. Rank 0
validates, evaluates and reports; the judge in the driver answers each report, and the other ranks follow rank 0.
Imported by trial processes only, since it needs torch.
"""

from __future__ import annotations

import gc
import io
import itertools
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from data.windows.novelty import distinct_rows
from data.windows.stream import EpochBatches, iter_epochs
from models.cpu.memory import keep_freed_memory
from models.training.checkpoint import save_model, save_training_state
from models.training.negatives import ArticleNegatives
from orchestrator.gates import EarlyStopping
from orchestrator.trials.inside import AGREE_EVERY, DrainNotice, Inside, NodeDrainsError
from orchestrator.trials.kept import KeptCheckpoints
from orchestrator.trials.learner import Learner
from orchestrator.trials.setup import TrialSetup, TrialWindows, Verdict
from orchestrator.trials.table import open_table
from orchestrator.trials.telling import Teller

PREDICT_LATENCY_QUERIES = 200
"""A batch-of-one forward pass is timed this often."""

_scores_of_lines: dict[tuple[Any, ...], dict[str, float]] = {}
"""Of the last line that this process has validated, by what they depend on."""


class Report(Protocol):
    """Sends a record, and files as bytes by name, and returns the judge's answer."""

    def __call__(self, record: dict[str, Any], files: dict[str, NDArray[Any]]) -> Verdict:
        """Report from rank 0; the other ranks report nothing and hear `continue`."""
        ...


class Stopwatch:
    """Seconds of one epoch by phase; `seconds`: those to add to."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = {} if seconds is None else seconds

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Add the block's wall time to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


@dataclass(slots=True)
class Best:
    """The weights of the best epoch so far, by the rule that says which one `best.pt` holds."""

    rule: EarlyStopping
    epoch: int | None = None
    value: float = -math.inf
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def improves(self, record: dict[str, Any]) -> bool:
        """Note an epoch's value; return whether it is the best, as the first epoch is whatever its value."""
        found = record.get(self.rule.metric)
        value = -math.inf if found is None or math.isnan(found) else found if self.rule.mode == "max" else -found
        better = value > self.value + self.rule.min_delta or self.epoch is None
        if better:
            self.epoch, self.value = record["epoch"], value
        return better


def train(setup: TrialSetup, *, orders: Any, report: Report, rank: int, num_workers: int, device: torch.device) -> None:
    """Train the setup's variant until the judge ends it, from its last checkpoint if it has one.

    Args:
        setup: what to train on what.
        orders: the Ray Data set, or an iterator over it, of row numbers of windows in each epoch's order.
        report: sends rank 0's records and files and returns the judge's answer.
        rank, num_workers: this worker among the trial's.
        device: where the model lives.

    Raises:
        NodeDrainsError: the node is being taken away. The driver has a checkpoint from inside the epoch by then.
    """
    torch.set_num_threads(setup.cpus_per_worker)
    keep_freed_memory()
    if device.type == "cuda":
        # A recorded step of the trial before in this process refers to itself, and holds memory of the GPU.
        gc.collect()
        torch.cuda.empty_cache()
    started = time.time()
    trial = Trial(setup, rank, num_workers, device)
    last_epoch = trial.resume()
    # An empty record asks the judge, who answers once the index and the baselines' figures are there. An attempt before
    # this one may have been over, and died while it predicted.
    verdict = trial.agreed(report({}, {}))
    if verdict == "continue" and last_epoch is None and setup.line is not None:
        began = time.time()
        record, files = trial.start()
        verdict = trial.agreed(report({**record, "started_at": started, "first_epoch_at": began}, files))
    if verdict == "continue":
        first_epoch = (last_epoch or 0) + 1
        epochs = range(first_epoch, setup.training.epochs + 1)
        num_windows = len(trial.windows.train)
        with closing(iter_epochs(orders, num_windows, setup.training.batch_size, epochs)) as stream:
            for epoch, batches in stream:
                began = time.time()
                record = trial.train_epoch(batches)
                if not record:
                    left, files = trial.leave(epoch)
                    trial.agreed(report(left, files))  # nobody ends a group before the driver has the checkpoint
                    raise NodeDrainsError(left["leaves"])
                if epoch == first_epoch:
                    record |= {"started_at": started, "first_epoch_at": began, "first_step_at": trial.first_step_at}
                    record |= {"went_back": trial.kept.went_back} if trial.kept.went_back else {}
                    record |= {"node": _node()}
                files = trial.conclude(record) if rank == 0 else {}
                verdict = trial.agreed(report(record, files))
                if verdict != "continue":
                    break
    if verdict == "survived":
        record, files = trial.predict_test() if rank == 0 else ({}, {})
        report(record, files)


class Trial:
    """One worker's share of a trial."""

    def __init__(self, setup: TrialSetup, rank: int, num_workers: int, device: torch.device) -> None:
        self.setup = setup
        self.folder = setup.folder
        self.rank, self.num_workers = rank, num_workers
        self.windows: TrialWindows = ray.get(setup.windows)
        table = open_table(setup.payload_path, setup.provenance["payload_sha256"], setup.evaluator, device)
        training = setup.training
        self.learner = Learner(
            setup.variant,
            table,
            ArticleNegatives(table.article_index, training.loss.article_negatives),
            context_length=self.windows.train.shape[1] - 1,
            total_steps=training.epochs * (len(self.windows.train) // training.batch_size),
            seed=setup.seed,
            rank=rank,
            num_workers=num_workers,
            line=None if setup.line is None else ray.get(setup.line),
            chunks=distinct_rows(self.windows.train, table.num_rows),
        )
        self.best = Best(setup.selection)
        self.first_step_at: float | None = None
        self.kept = KeptCheckpoints(setup)
        self.inside = Inside()
        self._inside_random: list[torch.Tensor] = []  # of an attempt that left its node
        self._saved_at = -math.inf
        self._notice = DrainNotice()
        self._drains = False

    def start(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return record and checkpoints of epoch 0: a model that starts from a fitted line is one before any step."""
        record: dict[str, Any] = {
            "epoch": 0,
            "steps": 0,
            "precision": self.learner.precision,
            "windows_seen": 0,
            "seconds": {},
        }
        return record, self.conclude(record, self._validate_line) if self.rank == 0 else {}

    def _validate_line(self) -> dict[str, float]:
        """Return the scores of epoch 0, which are those of the line whatever the variant: validated once a process."""
        training, windows = self.setup.training, self.windows
        content = sha256()
        for array in (*ray.get(self.setup.line), windows.train, windows.val, windows.val_novel):
            content.update(np.ascontiguousarray(array).data)
        key = (content.digest(), training.loss, training.batch_size, self.setup.seed)
        if key not in _scores_of_lines:
            _scores_of_lines.clear()
            _scores_of_lines[key] = self._validate()
        return _scores_of_lines[key]

    def resume(self) -> int | None:
        """Load the last checkpoint, and the best one with it; return its epoch, None for a fresh start."""
        state = self.kept.last()
        if state is None:
            return None
        if state["best_value"] is not None:
            best = self.kept.best()
            if best is None:
                return None
            # The best epoch stands beside its weights: after a crash between the two files they are of a later one.
            self.best.epoch, self.best.value, self.best.weights = best["epoch"], state["best_value"], best["state"]
        self.learner.load_state(state)
        if "inside" in state:
            self.inside = Inside(**state["inside"][self.rank])
            self._inside_random = state["random"][self.rank]
        return int(state["epoch"])

    def train_epoch(self, batches: EpochBatches) -> dict[str, Any]:
        """Train one epoch, or the rest of one that was left inside; return its record so far.

        The record: losses, digest of the order, windows seen, seconds. It is empty when the trial must leave its node.
        """
        epoch, inside = batches.epoch, self.inside
        self.learner.start_epoch(epoch)
        if inside.steps:
            self.learner.load_random_state(self._inside_random)
        watch = Stopwatch(inside.seconds)
        diverged = None
        iterator = itertools.islice(batches, inside.steps, None)
        size = self.setup.training.batch_size
        teller = Teller(
            self.folder.trial, epoch=epoch, steps=batches.num_batches, batch_size=size, begun_at=inside.steps
        )
        while True:
            with watch.time("data"):
                batch = next(iterator, None)
            if batch is None:
                break
            with watch.time("step"):
                result = self.learner.step(self.windows.train[batch])
            self.first_step_at = self.first_step_at or time.time()
            if not math.isfinite(result["grad_norm"]):
                diverged = (
                    f"loss {result['loss']:.4g}, gradient norm {result['grad_norm']:.4g} "
                    f"at step {inside.steps + 1} of epoch {epoch}"
                )
                break
            inside.add(result)
            if self.rank == 0:
                teller.tell(inside.steps, inside.sums["loss"])
            if self._must_leave():
                return {}
        means = self._average(inside.means())
        record = {"epoch": epoch, "steps": self.learner.steps, **means, "seconds": watch.seconds}
        if inside.steps:
            record["steps_per_second"] = inside.steps / watch.seconds["step"]
        self.inside = Inside()
        record["precision"] = self.learner.precision
        record["windows_seen"] = self.learner.steps * self.setup.training.batch_size
        if diverged is not None:
            return {**record, "diverged": diverged}
        return {**record, "order_digest": batches.digest}

    def _must_leave(self) -> bool:
        """Return whether a node of the trial is being taken away; all workers of a group say so after the same step."""
        self._drains = self._drains or self._notice.came()
        if self.num_workers == 1:
            return self._drains
        if self.learner.steps % AGREE_EVERY:
            return False
        drains = torch.tensor(float(self._drains), device=self.learner.table.device)
        torch.distributed.all_reduce(drains)
        return bool(drains > 0)

    def leave(self, epoch: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return a report that the trial leaves inside an epoch, and why, and the checkpoint to go on from there."""
        inside = self._of_all(asdict(self.inside))
        random = self._of_all(self.learner.random_state())
        nodes = " and ".join(dict.fromkeys(filter(None, self._of_all(_node() if self._drains else ""))))
        why = f"left {nodes}, which is being taken away, after step {self.inside.steps} of epoch {epoch}"
        state = self._state(epoch - 1) | {"inside": inside, "random": random}
        files = {"last.pt": _bytes_of(lambda file: save_training_state(file, state))} if self.rank == 0 else {}
        return {"leaves": why}, files

    def _of_all(self, own: Any) -> list[Any]:
        """Return what each worker gives here, by rank."""
        if self.num_workers == 1:
            return [own]
        found = [None] * self.num_workers
        torch.distributed.all_gather_object(found, own)
        return found

    def _average(self, means: dict[str, float]) -> dict[str, float]:
        """Return the means over all workers: each saw the losses of its own windows only."""
        if self.num_workers == 1 or not means:
            return means
        values = torch.tensor(list(means.values()), dtype=torch.float32, device=self.learner.table.device)
        torch.distributed.all_reduce(values)
        return dict(zip(means, (values / self.num_workers).tolist(), strict=True))

    def _validate(self) -> dict[str, float]:
        return self.learner.validate(self.windows.val, self.windows.val_novel)

    def conclude(
        self, record: dict[str, Any], validate: Callable[[], dict[str, float]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Validate, evaluate and return the checkpoints of an epoch, none when it diverged (rank 0)."""
        watch = Stopwatch()
        files: dict[str, NDArray[Any]] = {}
        if "diverged" not in record:
            with watch.time("validate"):
                record |= (validate or self._validate)()
            if not math.isfinite(record["val_soft_r@5"]):
                record["diverged"] = f"predictions of epoch {record['epoch']} are not finite"
        if "diverged" not in record:
            if record["epoch"] in self.setup.smoke_epochs:
                with watch.time("smoke"):
                    record |= self._smoke()
            with watch.time("checkpoint"):
                files = self._checkpoints(record)
        record["seconds"] |= watch.seconds
        return files

    def _checkpoints(self, record: dict[str, Any]) -> dict[str, NDArray[Any]]:
        files = {}
        if self.best.improves(record):
            scores = {name: value for name, value in record.items() if name.startswith("val_")}
            model = self.learner.model
            self.best.weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            about = {"metrics": scores, "provenance": self.setup.provenance}
            files["best.pt"] = _bytes_of(lambda file: save_model(file, model, epoch=record["epoch"], **about))
        if self._is_due(record["epoch"]):
            self._saved_at = time.monotonic()
            state = self._state(record["epoch"])
            files["last.pt"] = _bytes_of(lambda file: save_training_state(file, state))
        return files

    def _is_due(self, epoch: int) -> bool:
        """Return whether what the trial can go on from is sent after this epoch."""
        training = self.setup.training
        waited = time.monotonic() - self._saved_at >= 60.0 * training.checkpoint_minutes
        return waited or epoch == training.epochs or epoch in self.setup.pauses

    def _state(self, epoch: int) -> dict[str, Any]:
        """Return what a training that goes on after `epoch` needs."""
        best = None if self.best.epoch is None else self.best.value
        return {"run": self.folder.run, "epoch": epoch, "best_value": best, **self.learner.state()}

    def _smoke(self) -> dict[str, Any]:
        """Send predictions for the smoke sample to the evaluation actor; return its metrics and their intervals."""
        predictions = self.learner.predict(self.windows.smoke)
        answer = ray.get(
            self.setup.evaluator.evaluate.remote(
                self.setup.name, "smoke", predictions, latency_queries=self.setup.smoke_latency_queries
            )
        )
        return {"smoke": answer["metrics"], "smoke_ci": answer["ci"]}

    def predict_test(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Predict the test windows with the best weights, for the final evaluation; nothing here looks at them."""
        watch = Stopwatch()
        with watch.time("predict"):
            self.learner.model.load_state_dict(self.best.weights)
            predictions = self.learner.predict(self.windows.test)
            times_ms = self.learner.time_predictions(self.windows.test[:PREDICT_LATENCY_QUERIES])
        record = {"predicted": {"best_epoch": self.best.epoch, "predict_ms": times_ms}, "seconds": watch.seconds}
        return record, {"predictions.npy": predictions}

    def agreed(self, verdict: Verdict) -> Verdict:
        """Return rank 0's verdict on every rank."""
        if self.num_workers == 1:
            return verdict
        words: list[Verdict] = [verdict]
        torch.distributed.broadcast_object_list(words, src=0)
        return words[0]


def _node() -> str:
    """Return host, address and the beginning of Ray's own name of this node."""
    name = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "none"
    return f"{platform.node()} ({ray.util.get_node_ip_address()}, {name[:8]})"


def _bytes_of(save: Callable[[io.BytesIO], None]) -> NDArray[Any]:
    """Return what `save` writes into a file."""
    file = io.BytesIO()
    save(file)
    return np.frombuffer(file.getbuffer(), np.uint8)
