"""The slow twin of the orchestrator: the same learner, windows and epochs in plain processes, without Ray or gates.

    python -m tests.benchmarks.bare_loop experiments/phase5.yaml      # seconds a variant, and its last record

It is what the orchestrator's cost is held against (tests/benchmarks/orchestrator.py), and a test compares its figures
with a run's to the last digit.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

from data.prepare import prepare_data
from data.windows.novelty import distinct_rows
from data.windows.stream import epoch_order
from orchestrator.cluster.admission import longest_first
from orchestrator.config.load import load_config
from orchestrator.run.ledger import epoch_of


def train_variant(experiment: str, overrides: tuple[str, ...], name: str) -> dict[str, Any]:
    """Train one variant as its trial would; return its records, seconds of each step, and the test predictions."""
    import torch

    from data.payload.duplicates import duplicate_ids
    from evaluation.retrieval.fitted.choice import TrainingData
    from evaluation.retrieval.fitted.ridge import fit_whitened_ridge
    from models.cpu.memory import keep_freed_memory
    from models.training.negatives import ArticleNegatives
    from orchestrator.questions import make_questions
    from orchestrator.trials.learner import GatherTable, Learner
    from orchestrator.trials.train import Best

    began = time.perf_counter()
    config = load_config(Path(experiment), overrides)
    variant = config.resolved_variants[name]
    training = variant.training
    data = prepare_data(config.data, Path(config.data.cache_dir), seed=config.seed)
    questions = make_questions(config, data)
    torch.set_num_threads(config.resources.cpus_per_worker)
    keep_freed_memory()
    payload, windows = data.payload, data.splits.train.rows
    table = GatherTable(payload.vectors, duplicate_ids(payload.vectors), payload.article_index, torch.device("cpu"))
    num_steps = len(windows) // training.batch_size
    val = questions.val
    line = None
    if variant.spec.residual == "fitted":
        seen = TrainingData(payload.vectors, windows, val.windows, val.novel, val.article)
        line = fit_whitened_ridge(seen).by_position()
    learner = Learner(
        variant,
        table,
        ArticleNegatives(payload.article_index, training.loss.article_negatives),
        context_length=windows.shape[1] - 1,
        total_steps=training.epochs * num_steps,
        seed=config.seed,
        rank=0,
        num_workers=1,
        line=line,
        chunks=distinct_rows(windows, len(payload.vectors)),
    )
    rules = replace(config.stop_rules(variant, {}), gates=())
    best, records, step_s = Best(config.selection(variant)), [], []

    def conclude(record: dict[str, Any]) -> bool:
        """Validate, keep the best weights, write a checkpoint to nowhere; return whether the trial is over."""
        record |= learner.validate(val.windows, val.novel)
        records.append(record)
        if best.improves(record):
            best.weights = {key: tensor.detach().clone() for key, tensor in learner.model.state_dict().items()}
        torch.save(learner.state(), io.BytesIO())
        return any(decision.ending for decision in rules.decide([epoch_of(one) for one in records]))

    if line is not None:
        conclude({"epoch": 0})
    for epoch in range(1, training.epochs + 1):
        learner.start_epoch(epoch)
        order = epoch_order(len(windows), config.seed, epoch)
        sums: dict[str, float] = {}
        for step in range(num_steps):
            start = time.perf_counter()
            batch = order[step * training.batch_size : (step + 1) * training.batch_size]
            for key, value in learner.step(windows[batch]).items():
                sums[key] = sums.get(key, 0.0) + value
            step_s.append(time.perf_counter() - start)
        if conclude({"epoch": epoch, **{key: value / num_steps for key, value in sums.items()}}):
            break
    learner.model.load_state_dict(best.weights)
    predictions = learner.predict(questions.final.windows)
    return {
        "variant": name,
        "seconds": time.perf_counter() - began,
        "records": records,
        "step_s": step_s,
        "predictions": predictions,
    }


def run_bare(experiment: str, overrides: tuple[str, ...] = (), slots: int = 2) -> dict[str, dict[str, Any]]:
    """Train all variants, `slots` at a time, each process taking one after the other."""
    config = load_config(Path(experiment), overrides)
    names = longest_first(dict.fromkeys(config.resolved_variants, 1.0))
    # As the evaluator, in which the line is fitted: on some processors two threads of BLAS sum otherwise.
    one_thread = mock.patch.dict(os.environ, OMP_NUM_THREADS="1")
    with one_thread, ProcessPoolExecutor(slots, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(train_variant, experiment, overrides, name) for name in names]
        return {result["variant"]: result for result in (future.result() for future in futures)}


if __name__ == "__main__":
    began = time.perf_counter()
    for name, result in run_bare(sys.argv[1], tuple(sys.argv[2:])).items():
        sys.stdout.write(f"{name}: {result['seconds']:.0f} s, {json.dumps(result['records'][-1])}\n")
    sys.stdout.write(f"{time.perf_counter() - began:.0f} s\n")
