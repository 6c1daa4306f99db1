"""Variants trained in this process, without Ray or gates: an experiment's data, its learners and their epochs."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from data.payload.duplicates import duplicate_ids
from data.prepare import prepare_data
from data.windows.novelty import distinct_rows
from data.windows.stream import epoch_order
from evaluation.retrieval.fitted.choice import TrainingData
from evaluation.retrieval.fitted.ridge import FittedRidge, fit_whitened_ridge
from models.cpu.memory import keep_freed_memory
from models.training.negatives import ArticleNegatives
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.questions import make_questions
from orchestrator.run.ledger import epoch_of
from orchestrator.trials.learner import GatherTable, Learner
from orchestrator.trials.train import Best

Record = dict[str, Any]
"""Of an epoch: its number, losses and scores."""


class Training:
    """What the variants of an experiment are trained with."""

    def __init__(self, config: ExperimentConfig) -> None:
        self.config = config
        data = prepare_data(config.data, Path(config.data.cache_dir), seed=config.seed)
        self.questions = make_questions(config, data)
        torch.set_num_threads(config.resources.cpus_per_worker)
        keep_freed_memory()
        vectors, articles = data.payload.vectors, data.payload.article_index
        self.windows = data.splits.train.rows
        self.table = GatherTable(vectors, duplicate_ids(vectors), articles, torch.device("cpu"))
        val = self.questions.val
        self.fitted_to = TrainingData(vectors, self.windows, val.windows, val.novel, val.article)

    @cached_property
    def line(self) -> FittedRidge:
        """What `residual: fitted` starts from."""
        return fit_whitened_ridge(self.fitted_to)

    def learner(self, name: str, kind: type[Learner] = Learner, *, seed: int | None = None, **changed: Any) -> Learner:
        """Return a variant, with some of its sizes changed, before its first step."""
        variant = self.config.resolved_variants[name]
        variant = replace(variant, spec=replace(variant.spec, **changed))
        return kind(
            variant,
            self.table,
            ArticleNegatives(self.table.article_index, variant.training.loss.article_negatives),
            context_length=self.windows.shape[1] - 1,
            total_steps=variant.training.epochs * (len(self.windows) // variant.training.batch_size),
            seed=self.config.seed if seed is None else seed,
            rank=0,
            num_workers=1,
            line=self.line.by_position() if variant.spec.residual == "fitted" else None,
            chunks=distinct_rows(self.windows, self.table.num_rows),
        )

    def train(
        self, learner: Learner, name: str, *, seed: int | None = None
    ) -> tuple[list[dict[str, Any]], list[float]]:
        """Train until the variant's early stopping ends it and leave the best weights in it.

        Returns:
            the records of the epochs, and the seconds of each step.
        """
        variant, seed = self.config.resolved_variants[name], self.config.seed if seed is None else seed
        val, size = self.questions.val, variant.training.batch_size
        rules = replace(self.config.stop_rules(variant, {}), gates=())
        best, records, step_s = Best(self.config.selection(variant)), [], []

        def conclude(record: Record) -> bool:
            """Validate, keep the best weights, write a checkpoint to nowhere; return whether the trial is over."""
            record |= learner.validate(val.windows, val.novel)
            records.append(record)
            if best.improves(record):
                best.weights = {key: tensor.detach().clone() for key, tensor in learner.model.state_dict().items()}
            torch.save(learner.state(), io.BytesIO())
            return any(decision.ending for decision in rules.decide([epoch_of(one) for one in records]))

        if variant.spec.residual == "fitted":
            conclude({"epoch": 0})
        for epoch in range(1, variant.training.epochs + 1):
            learner.start_epoch(epoch)
            order = epoch_order(len(self.windows), seed, epoch)
            num_steps = len(self.windows) // size
            sums: dict[str, float] = {}
            for step in range(num_steps):
                start = time.perf_counter()
                for key, value in learner.step(self.windows[order[step * size : (step + 1) * size]]).items():
                    sums[key] = sums.get(key, 0.0) + value
                step_s.append(time.perf_counter() - start)
            if conclude({"epoch": epoch, **{key: value / num_steps for key, value in sums.items()}}):
                break
        learner.model.load_state_dict(best.weights)
        return records, step_s
