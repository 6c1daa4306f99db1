"""MLflow: runs on a tracking server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.ending import Ending
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.tracking.numbers import final_files, final_numbers, parameters, plain_name

MLFLOW_STATUS = {Ending.FINISHED: "FINISHED", Ending.EARLY_STOPPED: "FINISHED", Ending.FAILED: "FAILED"}


class MLflow:
    """One run a trial on a tracking server, under the experiment's name."""

    def __init__(self, uri: str, config: ExperimentConfig, tags: Mapping[str, str]) -> None:
        from mlflow import MlflowClient  # type: ignore[import-not-found,unused-ignore]

        self._client, self._config, self._tags = MlflowClient(tracking_uri=uri), config, dict(tags)
        self._runs: dict[str, str] = {}
        self._experiment: str | None = None

    def begin(self, trial: str) -> None:
        """Make the run, with the resolved configuration as parameters."""
        from mlflow.entities import Param  # type: ignore[import-not-found,unused-ignore]

        if self._experiment is None:
            found = self._client.get_experiment_by_name(self._config.name)
            self._experiment = found.experiment_id if found else self._client.create_experiment(self._config.name)
        planned = self._config.trials[trial]
        tags = {**self._tags, "variant": planned.variant.name, "seed": str(planned.seed), "mlflow.runName": trial}
        self._runs[trial] = run = self._client.create_run(self._experiment, tags=tags).info.run_id
        settings = parameters(self._config, trial)
        self._client.log_batch(run, params=[Param(key, str(value)[:500]) for key, value in settings.items()])

    def numbers(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log metrics at a step of the epoch's number."""
        from mlflow.entities import Metric  # type: ignore[import-not-found,unused-ignore]

        now = int(1000 * time.time())
        logged = [Metric(plain_name(name), value, now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._runs[trial], metrics=logged)

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        """Close the run under its status; a pruned one counts as killed, and its tag says why."""
        self._client.set_tag(self._runs[trial], "ending", ending.name)
        self._client.set_tag(self._runs[trial], "reason", reason[:5000])
        self._client.set_terminated(self._runs[trial], MLFLOW_STATUS.get(ending, "KILLED"))

    def finish(self, results: Mapping[str, Any], run: Path) -> None:
        """Log final figures, verdicts and files: the tables with each run, weights with that of the best variant."""
        for trial, epoch, metrics in final_numbers(results):
            if trial in self._runs:
                self.numbers(trial, epoch, metrics)
        for trial, verdict, files in final_files(results, run):
            if trial in self._runs:
                self._client.set_tag(self._runs[trial], "verdict", verdict)
                for file in files:
                    self._client.log_artifact(self._runs[trial], str(file))
