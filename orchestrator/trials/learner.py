"""What a worker trains with: the vectors it gathers from, the model with its optimizer, and the scores of an epoch.

Letters: B windows of the global batch, b own windows, L context length, D vector dim, N payload rows, V windows of the
validation sample, M chunks drawn for a step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.seeding import derive_seed
from evaluation.measures.latency import measure
from evaluation.measures.metrics import soft_recall
from evaluation.retrieval.fitted.choice import blocks, choosing_queries
from models.blocks.build import OwnModel, build_model, can_compile, compile_layers
from models.training.losses import Loss, LossOutput
from models.training.negatives import ArticleNegatives
from models.training.optim import (
    build_optimizer,
    clip_gradients,
    load_optimizer_state,
    optimizer_state,
    set_lr,
    step_if_finite,
)
from models.training.precision import resolve_precision
from models.training.replay import Replayed
from orchestrator.config.experiment import Variant
from orchestrator.config.sections import TrainingConfig

COMPILE_FROM_STEPS = 3_000
"""`compile: auto`: on an H100 compiling takes 20 s a variant and takes 5 to 11 ms from a step at the original sizes."""
SHARES = (1.0, 0.5)
"""What validation chooses from: how much of a model's output is added to a fitted line in a prediction. With a direct
path also nothing: its layers can be worth less than none, and the line as the direct path has corrected it is left."""
# The payload moves to the GPU whole when it leaves room for the training beside it.
RESIDENT_SHARE = 0.5


Line = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights (L, D, D) and biases (L, D) of `FittedRidge.by_position`."""


def compiles(training: TrainingConfig, total_steps: int, *, recorded: bool) -> bool:
    """Say whether the layers are compiled: auto where steps are recorded and the training is long enough for it."""
    if training.compile != "auto":
        return training.compile
    return recorded and total_steps >= COMPILE_FROM_STEPS and can_compile()


class GatherTable:
    """The payload's vectors (N, D), the ids of exact duplicates (N,) and the article of each row (N,), by row number.

    Shared by all trials of a node: the rows stay in the memory map unless a GPU has room for all of them.
    """

    def __init__(
        self,
        vectors: NDArray[np.floating],
        ids: NDArray[np.int32],
        article_index: NDArray[np.int32],
        device: torch.device,
    ) -> None:
        with warnings.catch_warnings():
            # The map is read-only and so are all uses of this tensor.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._vectors = torch.from_numpy(vectors)
            self._ids = torch.from_numpy(ids)
        self.article_index = article_index
        self.device = device
        self.num_rows, self.dim = vectors.shape
        if device.type == "cuda" and vectors.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._vectors, self._ids = self._vectors.to(device), self._ids.to(device)

    def gather(self, rows: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        """Return vectors (B, L+1, D) float32 and duplicate ids (B, L+1) int64 of rows (B, L+1)."""
        flat = torch.from_numpy(rows.reshape(-1).astype(np.int64)).to(self._vectors.device)
        vectors = self._vectors.index_select(0, flat).to(self.device, torch.float32)
        ids = self._ids.index_select(0, flat).to(self.device, torch.int64)
        return vectors.view(*rows.shape, self.dim), ids.view(rows.shape)

    def ranks(self, pred: Tensor, target: Tensor) -> NDArray[np.int64]:
        """Return the rank from 1 of each target among all rows of the payload, (V,); pred, target: (V, D)."""
        # The target is among the rows and may differ from its own product in the last bit.
        own = (pred * target).sum(-1, keepdim=True) + 1e-6
        higher = torch.zeros(len(pred), dtype=torch.int64, device=self.device)
        for part in blocks(len(self._vectors), len(pred)):
            rows = self._vectors[part].to(self.device, torch.float32)
            higher += (pred @ rows.T > own).sum(-1)
        found: NDArray[np.int64] = (1 + higher).cpu().numpy()
        return found


class Learner:
    """A variant being trained: model, loss, optimizer and schedule, on one worker of `num_workers`."""

    def __init__(
        self,
        variant: Variant,
        table: GatherTable,
        negatives: ArticleNegatives,
        *,
        context_length: int,
        total_steps: int,
        seed: int,
        rank: int,
        num_workers: int,
        line: Line | None = None,
        chunks: NDArray[np.intp] | None = None,
    ) -> None:
        """`chunks`: rows of the chunks in training windows, (C,), for a loss that ranks targets among some of them."""
        self.training: TrainingConfig = variant.training
        self.precision = resolve_precision(self.training.precision, table.device)
        self.table = table
        self._negatives = negatives
        self._length = context_length
        self.total_steps = total_steps
        self.steps = 0
        self._seed = seed
        self._rank = rank
        self._num_workers = num_workers
        # The same seed for every variant: none is luckier than another by its place in the file.
        torch.manual_seed(derive_seed(seed, "init"))
        self.model = build_model(variant.spec, table.dim).to(table.device)
        self._on_line: OwnModel | None = None
        if variant.spec.residual == "fitted":
            assert isinstance(self.model, OwnModel)
            assert line is not None, "residual: fitted needs the line that the evaluator fits"
            self.model.head.line.set(*map(torch.tensor, line))
            self._on_line = self.model
        self.loss = Loss(self.training.loss, table.num_rows).to(table.device)
        self._chunks = chunks
        self._parameters = [*self.model.parameters(), *self.loss.parameters()]
        self.optimizer = build_optimizer(nn.ModuleList([self.model, self.loss]), self.training.optimizer)
        self._replica: nn.Module = self.model
        if num_workers > 1:
            # The buffers, a line and a rotation, are the same on all workers.
            self._replica = DistributedDataParallel(self.model, broadcast_buffers=False)
        share = self.training.batch_size // num_workers
        self._own = slice(rank * share, (rank + 1) * share)
        self._numbers: tuple[str, ...] = ()  # what `_update` returns, by name
        # The code of somebody else's model may wait for the device, which cannot be recorded.
        self._recorded = table.device.type == "cuda" and num_workers == 1 and isinstance(self.model, OwnModel)
        self._run_update = self._new_update()
        self._compiled = compiles(self.training, total_steps, recorded=self._recorded)
        if self._compiled:
            compile_layers(self.model)
            self.loss.compile(dynamic=False)

    def start_epoch(self, epoch: int) -> None:
        """Seed dropout for an epoch, so that a resumed epoch equals an uninterrupted one."""
        torch.manual_seed(derive_seed(self._seed, "epoch", epoch, "rank", self._rank))
        self._replica.train()

    def step(self, rows: NDArray[np.int32]) -> dict[str, float]:
        """Update the weights with one global batch of windows (B, L+1); return its losses, learning rate and norm.

        A `grad_norm` that is not finite means that the weights were left as they were: the caller ends the trial.
        """
        # Seeded by the step, so that a resumed epoch draws what an uninterrupted one drew.
        vectors, ids = self.table.gather(self._with_negatives(rows, "train", self.steps))
        lr = set_lr(self.optimizer, self.steps, self.total_steps, self.training.optimizer)
        # All numbers in one transfer: on a GPU each would wait for the device.
        numbers = self._run_update(vectors, ids, *self._drawn("train", self.steps)).tolist()
        result = dict(zip(self._numbers, numbers, strict=True))
        if math.isfinite(result["grad_norm"]):
            self.steps += 1
        return {**result, "lr": lr}

    def _new_update(self) -> Callable[..., Tensor]:
        return Replayed(self._update) if self._recorded else self._update

    def _update(self, vectors: Tensor, ids: Tensor, *drawn: Tensor) -> Tensor:
        """Update the weights with vectors (B, L+1+E, D) and ids of the same rows; return norm and losses, (n,).

        `drawn`: what `_drawn` returned. It waits for no device, so that a GPU can replay it.
        """
        output = self._loss_of(vectors, ids, *drawn)
        self.optimizer.zero_grad(set_to_none=True)
        output.total.backward()  # type: ignore[no-untyped-call]
        self._average_loss_gradients()
        norm = clip_gradients(self._parameters, self.training.optimizer)
        step_if_finite(self.optimizer, norm)
        numbers = {"grad_norm": norm, "loss": output.total.detach()}
        numbers |= {f"loss_{name}": value for name, value in output.parts.items()}
        self._numbers = tuple(numbers)
        return torch.stack([*numbers.values()])

    def _loss_of(self, vectors: Tensor, ids: Tensor, *drawn: Tensor) -> LossOutput:
        """Return the loss of the own windows of vectors (B, L+1+E, D) with ids of the same rows."""
        with self._autocast():
            pred = self._replica(vectors[self._own, : self._length])
        output: LossOutput = self.loss(pred, vectors, ids, self._own, drawn or None)
        return output

    def _with_negatives(self, rows: NDArray[np.int32], *seed: str | int) -> NDArray[np.int32]:
        """Return windows (B, L+1) with their hard negatives, if any are configured, as further columns."""
        if self._negatives.num == 0:
            return rows
        rng = np.random.default_rng(derive_seed(self._seed, "negatives", *seed))
        return np.concatenate([rows, self._negatives.draw(rows, rng)], axis=1)

    def _drawn(self, *seed: str | int) -> tuple[Tensor, ...]:
        """Return vectors (M, D) and ids (M,) of chunks that targets are ranked among; nothing where no loss asks.

        They are those of training windows: nothing of validation and test articles is learned from.
        """
        if self.training.loss.recall == 0.0:
            return ()
        assert self._chunks is not None, "a loss with recall needs the chunks of the training windows"
        rng = np.random.default_rng(derive_seed(self._seed, "drawn", *seed))
        rows = self._chunks[rng.integers(len(self._chunks), size=self.training.loss.recall_chunks)]
        vectors, ids = self.table.gather(rows[None])
        return vectors[0], ids[0]

    def _average_loss_gradients(self) -> None:
        """Average the loss's own gradients (a learned temperature), which DDP does not know of."""
        for parameter in self.loss.parameters():
            if self._num_workers > 1 and parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self._num_workers

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.table.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _uncompiled(self) -> AbstractContextManager[Any]:
        """Leave compiled layers aside: they fit the batches of a step, and any other size would compile anew."""
        # torch's stance is asked for only then: it imports the compiler.
        return torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()

    @torch.inference_mode()
    def predict(self, windows: NDArray[np.int32], batch_size: int = 1024) -> NDArray[np.float32]:
        """Return the predicted target vectors (V, D), unit rows, of windows (V, L+1)."""
        self.model.eval()
        predictions = np.empty((len(windows), self.table.dim), np.float32)
        with self._uncompiled():
            for start in range(0, len(windows), batch_size):
                vectors, _ = self.table.gather(windows[start : start + batch_size])
                predictions[start : start + batch_size] = self.model(vectors[:, :-1])[:, -1].float().cpu().numpy()
        return predictions

    def time_predictions(self, windows: NDArray[np.int32]) -> list[float]:
        """Return the milliseconds of one forward pass of each window alone, on one thread, after a warm-up."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            timed = measure(self.predict, windows, len(windows)) if len(windows) else None
        finally:
            torch.set_num_threads(threads)
        return [] if timed is None else [float(ms) for ms in timed.samples_ms]

    @torch.inference_mode()
    def validate(self, windows: NDArray[np.int32], novel: NDArray[np.bool_]) -> dict[str, float]:
        """Return the scores of an epoch over windows (V, L+1), of which some are novel (V,).

        val_soft_r@5 and val_soft_r@50 are soft recalls over novel windows, with the target's rank in the whole payload,
        as in the evaluation that decides; the closed-form baselines choose by the same. So they choose the epoch: a
        cosine, or a rank among the few validation targets, leaves out the context's own chunks, which fill the first
        ranks. val_mrr_all is the mean reciprocal rank of the target among all targets of these windows; val_mrr is its
        mean over the novel ones, over all where none is novel. val_loss and val_cosine are means over all.

        A model that starts from a fitted line predicts from then on with the share of its output that has the best
        val_soft_r@5 (`PredictionHead`), which val_share says. The other scores are those of that share.
        """
        self.model.eval()
        shares = self._shares()
        losses = dict.fromkeys(shares, 0.0)
        predicted: dict[float, list[Tensor]] = {share: [] for share in shares}
        targets, target_ids = [], []
        size = self.training.batch_size
        drawn = self._drawn("val") or None
        with self._uncompiled():
            for start in range(0, len(windows), size):
                part = self._with_negatives(windows[start : start + size], "val", start)
                vectors, ids = self.table.gather(part)
                for share, pred in self._at_shares(shares, vectors[:, : self._length]):
                    losses[share] += float(self.loss(pred, vectors, ids, drawn=drawn).total) * len(ids)
                    predicted[share].append(pred[:, -1].float())
                targets.append(vectors[:, self._length])
                target_ids.append(ids[:, self._length])
        target_vd, ids_v = torch.cat(targets), torch.cat(target_ids)
        if not all(bool(part.isfinite().all()) for parts in predicted.values() for part in parts):
            return dict.fromkeys(("val_soft_r@5", "val_mrr"), math.nan)
        found = {share: self._scores(torch.cat(predicted[share]), target_vd, ids_v, novel) for share in shares}
        best = max(shares, key=lambda share: found[share]["val_soft_r@5"])
        scores = {"val_loss": losses[best] / len(windows), **found[best]}
        if self._on_line is None or len(shares) == 1:
            return scores
        self._on_line.head.share.fill_(best)
        return scores | {"val_share": best}

    def _shares(self) -> tuple[float, ...]:
        """Return the shares of the output to choose from; before the first step there is nothing to add to a line."""
        if self._on_line is None or self.steps == 0:
            return SHARES[:1]
        return (*SHARES, 0.0) if self._on_line.head.direct_chunks > 0 else SHARES

    def _at_shares(self, shares: Sequence[float], context: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield the predictions of contexts (b, L, D) with each share of the output; the layers run once."""
        if self._on_line is None:
            yield shares[0], self.model(context)
            return
        encoded = self._on_line.encode(context)
        for share in shares:
            self._on_line.head.share.fill_(share)
            yield share, self._on_line.head(*encoded)

    def _scores(self, pred: Tensor, target: Tensor, ids: Tensor, novel: NDArray[np.bool_]) -> dict[str, float]:
        """Return the scores of predictions (V, D) of targets (V, D) with duplicate ids (V,), but for the loss."""
        reciprocal = reciprocal_ranks(pred, target, ids)
        choosing = choosing_queries(novel, self.table.num_rows)
        ranks = self.table.ranks(pred[choosing], target[choosing])
        return {
            "val_cosine": float((pred * target).sum(-1).mean()),
            "val_soft_r@5": soft_recall(ranks, 5),
            "val_soft_r@50": soft_recall(ranks, 50),
            "val_mrr": float(reciprocal[novel].mean() if novel.any() else reciprocal.mean()),
            "val_mrr_all": float(reciprocal.mean()),
        }

    def state(self) -> dict[str, Any]:
        """Return what `load_state` needs to go on as if never interrupted."""
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "steps": self.steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self._run_update = self._new_update()  # a recorded step would go on with the optimizer's former means
        self.steps = state["steps"]

    def random_state(self) -> list[Tensor]:
        """Return the states of the generators that dropout draws from, to go on inside an epoch."""
        kind = self.table.device.type
        of_device = [] if kind == "cpu" else [torch.get_device_module(kind).get_rng_state()]
        return [torch.get_rng_state(), *of_device]

    def load_random_state(self, states: Sequence[Tensor]) -> None:
        """Restore what `random_state` returned; on another kind of device it goes on as the epoch was seeded."""
        torch.set_rng_state(states[0])
        kind = self.table.device.type
        if kind != "cpu" and len(states) > 1:
            torch.get_device_module(kind).set_rng_state(states[1])


def reciprocal_ranks(pred: Tensor, target: Tensor, ids: Tensor) -> NDArray[np.float64]:
    """Return 1 / rank of each target among the distinct targets, (V,); 0 for a prediction that is no number.

    pred, target: (V, D) unit rows; ids: (V,) equal for equal vectors. A rank is 1 + the candidates that score higher.
    """
    _, first = np.unique(ids.cpu().numpy(), return_index=True)
    candidates = target[torch.from_numpy(first).to(target.device)]  # (C, D)
    own = (pred * target).sum(-1, keepdim=True)  # (V, 1)
    parts = []
    for start in range(0, len(pred), 1024):
        part = slice(start, start + 1024)
        # The target is among the candidates and may differ from its own product in the last bit.
        higher = (pred[part] @ candidates.T > own[part] + 1e-6).sum(-1)
        # Nothing scores higher than NaN: without this the worst prediction would have the best rank.
        parts.append(torch.where(own[part, 0].isfinite(), 1.0 / (1.0 + higher), 0.0))
    found: NDArray[np.float64] = torch.cat(parts).cpu().numpy().astype(np.float64)
    return found
