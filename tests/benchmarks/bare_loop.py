"""The slow twin of the orchestrator: the same learner, windows and epochs in plain processes, without Ray or gates.

    python -m tests.benchmarks.bare_loop experiments/phase5.yaml      # seconds a variant, and its last record

It is what the orchestrator's cost is held against (tests/benchmarks/orchestrator.py), and a test compares its figures
with a run's to the last digit.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator.cluster.admission import longest_first
from orchestrator.config.load import load_config


def train_variant(experiment: str, overrides: tuple[str, ...], name: str) -> dict[str, Any]:
    """Train one variant as its trial would; return its records, seconds of each step, and the test predictions."""
    from tests.benchmarks.training import Training

    began = time.perf_counter()
    training = Training(load_config(Path(experiment), overrides))
    learner = training.learner(name)
    records, step_s = training.train(learner, name)
    predictions = learner.predict(training.questions.final.windows)
    return {
        "variant": name,
        "seconds": time.perf_counter() - began,
        "records": records,
        "step_s": step_s,
        "predictions": predictions,
    }


@contextmanager
def processes(slots: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes with one thread of BLAS each, as the evaluator in which a run's line is fitted.

    On some processors two threads sum otherwise.
    """
    one_thread = mock.patch.dict(os.environ, OMP_NUM_THREADS="1")
    with one_thread, ProcessPoolExecutor(slots, mp_context=get_context("spawn")) as pool:
        yield pool


def run_bare(experiment: str, overrides: tuple[str, ...] = (), slots: int = 2) -> dict[str, dict[str, Any]]:
    """Train all variants, `slots` at a time, each process taking one after the other."""
    config = load_config(Path(experiment), overrides)
    names = longest_first(dict.fromkeys(config.resolved_variants, 1.0))
    with processes(slots) as pool:
        futures = [pool.submit(train_variant, experiment, overrides, name) for name in names]
        return {result["variant"]: result for result in (future.result() for future in futures)}


if __name__ == "__main__":
    began = time.perf_counter()
    for name, result in run_bare(sys.argv[1], tuple(sys.argv[2:])).items():
        sys.stdout.write(f"{name}: {result['seconds']:.0f} s, {json.dumps(result['records'][-1])}\n")
    sys.stdout.write(f"{time.perf_counter() - began:.0f} s\n")
