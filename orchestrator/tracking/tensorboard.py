"""TensorBoard: event files in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evaluation.ending import Ending
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.tracking.numbers import final_numbers, parameters, plain_name


class TensorBoard:
    """Event files in `tensorboard/<trial>/` of the run folder."""

    def __init__(self, run: Path, config: ExperimentConfig) -> None:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

        self._make: Callable[[str], Any] = lambda trial: SummaryWriter(str(run / "tensorboard" / trial))
        self._config = config
        self._writers: dict[str, Any] = {}

    def begin(self, trial: str) -> None:
        """Write what the trial is."""
        self._writers[trial] = writer = self._make(trial)
        settings = parameters(self._config, trial)
        writer.add_text("configuration", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def numbers(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write scalars; `@` is no letter of TensorBoard's names."""
        for name, value in metrics.items():
            self._writers[trial].add_scalar(plain_name(name), value, epoch)
        self._writers[trial].flush()

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        """Write how it ended."""
        self._writers[trial].add_text("ending", f"{ending.name}: {reason}")
        self._writers[trial].flush()

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """Write the final figures of every trial's row, and close the files: their own threads write them."""
        for trial, epoch, metrics in final_numbers(results):
            if trial in self._writers:
                self.numbers(trial, epoch, metrics)
        for writer in self._writers.values():
            writer.close()
