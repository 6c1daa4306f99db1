"""TensorBoard and MLflow, where the experiment asks for them: Ray Tune's own callbacks, fed with each epoch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from data.errors import UserError
from orchestrator.config.experiment import TrackingConfig


def check_tracking(tracking: TrackingConfig) -> None:
    """Refuse a tracker whose library is missing; UserError says what to install."""
    if tracking.mlflow is not None and find_spec("mlflow") is None:
        raise UserError(
            "tracking.mlflow: expected the package mlflow, got an environment without it; pip install -e '.[mlflow]' "
            "or leave the key out"
        )


def tracking_callbacks(tracking: TrackingConfig, experiment: str) -> list[Any]:
    """Return Tune's callbacks for the trackers that are asked for.

    TensorBoard's files lie in the trials' folders under `ray/` of the run; `mlflow` is the tracking server's address.
    """
    callbacks: list[Any] = []
    if tracking.tensorboard:
        from ray.tune.logger import TBXLoggerCallback

        callbacks.append(TBXLoggerCallback())
    if tracking.mlflow is not None:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        callbacks.append(MLflowLoggerCallback(tracking_uri=tracking.mlflow, experiment_name=experiment))
    return callbacks
