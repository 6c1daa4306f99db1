"""The pace of a trial: what its steps take on a clock of the test's own."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.trials import pace

STEP_S, BATCH_SIZE, NUM_WINDOWS = 0.25, 64, 200  # three full batches


def test_the_pace_is_that_of_the_steps_after_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, batches = [100.0], []

    def step(rows: np.ndarray) -> None:
        clock[0] += STEP_S if len(batches) >= pace.WARM_UP_STEPS else 9.0  # the first ones compile
        batches.append(rows[:, 0])

    trial = SimpleNamespace(
        learner=SimpleNamespace(step=step, start_epoch=lambda epoch: None),
        windows=SimpleNamespace(train=np.arange(NUM_WINDOWS)[:, None]),
    )
    monkeypatch.setattr(pace, "Trial", lambda *_: trial)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock[0])
    training = SimpleNamespace(batch_size=BATCH_SIZE)
    setup: Any = SimpleNamespace(cpus_per_worker=1, device="cpu", training=training)
    assert pace.epoch_s(setup, 1.1) == 3 * STEP_S
    assert len(batches) == pace.WARM_UP_STEPS + 5  # 1.25 s
    assert {len(batch) for batch in batches} == {BATCH_SIZE}
    assert [batch[0] for batch in batches[pace.WARM_UP_STEPS :]] == [0, 64, 128, 0, 64]
