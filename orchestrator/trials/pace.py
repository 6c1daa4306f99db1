"""How long a step of a trial takes where trials run: what `search.budget: {seconds: ...}` turns into epochs.

Imported by its own processes only, since it needs torch.
"""

from __future__ import annotations

import time

import torch

from data.payload.keys import Int32
from models.cpu.memory import keep_freed_memory
from orchestrator.trials.setup import TrialSetup
from orchestrator.trials.train import Trial

WARM_UP_STEPS = 5


def epoch_s(setup: TrialSetup, least_s: float) -> float:
    """Return the seconds of an epoch of a trial of one worker, from steps timed for at least `least_s` seconds.

    The steps are those of the training, on its first windows; nothing of them is kept.
    """
    torch.set_num_threads(setup.cpus_per_worker)
    keep_freed_memory()
    trial = Trial(setup, 0, 1, torch.device(setup.device))
    trial.learner.start_epoch(1)
    windows, size = trial.windows.train, setup.training.batch_size
    num_batches = len(windows) // size
    for number in range(WARM_UP_STEPS):
        trial.learner.step(_batch(windows, number % num_batches, size))
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < least_s:
        trial.learner.step(_batch(windows, steps % num_batches, size))
        steps += 1
    return (time.perf_counter() - began) / steps * num_batches


def _batch(windows: Int32, number: int, size: int) -> Int32:
    return windows[number * size : (number + 1) * size]
