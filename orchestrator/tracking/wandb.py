"""Weights & Biases: one run a trial in a project of the experiment's name; offline, files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from evaluation.ending import Ending
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.tracking.numbers import final_files, final_numbers, parameters, plain_name


class WeightsAndBiases:
    """Runs below `wandb/` of the run folder. `wandb sync` sends what was written offline.

    A trial's run is closed at the end of the whole, when its final figures are there. What the library would find out
    by itself (host, command line, git, machine load) is not asked for.
    """

    def __init__(
        self, mode: Literal["offline", "online"], run: Path, config: ExperimentConfig, tags: Mapping[str, str]
    ) -> None:
        import wandb  # type: ignore[import-not-found,unused-ignore]

        self._init = wandb.init
        self._settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_meta=True, x_disable_stats=True
        )
        self._mode, self._folder, self._config, self._tags = mode, run, config, dict(tags)
        self._runs: dict[str, Any] = {}
        self._endings: dict[str, Ending] = {}

    def begin(self, trial: str) -> None:
        """Make the run, with the resolved settings as its configuration."""
        planned = self._config.trials[trial]
        about = {**self._tags, "variant": planned.variant.name, "seed": str(planned.seed)}
        self._runs[trial] = run = self._init(
            project=self._config.name,
            name=trial,
            dir=str(self._folder),
            mode=self._mode,
            reinit="create_new",  # trials run side by side
            config={**parameters(self._config, trial), **about},
            settings=self._settings,
        )
        run.define_metric("*", step_metric="epoch")

    def numbers(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log metrics at an epoch."""
        self._runs[trial].log({"epoch": epoch, **{plain_name(name): value for name, value in metrics.items()}})

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        """Note how it ended and why."""
        self._endings[trial] = ending
        self._runs[trial].summary.update({"ending": ending.name, "reason": reason})

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """Log final figures, verdicts and files, the weights with the best variant, and close the runs."""
        for trial, epoch, metrics in final_numbers(results):
            if trial in self._runs:
                self.numbers(trial, epoch, metrics)
        for trial, verdict, files in final_files(results, run):
            if trial in self._runs:
                self._runs[trial].summary["verdict"] = verdict
                for file in files:
                    self._runs[trial].save(str(file), base_path=str(run), policy="now")
        for trial, found in self._runs.items():
            failed = self._endings.get(trial) in {Ending.FAILED, Ending.DIVERGED}
            found.finish(exit_code=1 if failed else 0)
