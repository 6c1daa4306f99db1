"""TensorBoard and MLflow are off unless asked for, and asked for without their library they are refused in one line."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config.experiment import TrackingConfig
from orchestrator.trials.setup import to_report
from orchestrator.trials.tracking import check_tracking, tracking_callbacks


class Writer:
    """Stands in for TensorBoard's writer; remembers what it is given."""

    def __init__(self, folder: str, **_: Any) -> None:
        self.folder = folder
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, global_step: int) -> None:
        self.scalars.append((name, value, global_step))

    def flush(self) -> None: ...


class TuneTrial:
    local_path = "/the/trial"

    def init_local_path(self) -> None: ...


def test_nothing_is_tracked_elsewhere_by_default() -> None:
    assert tracking_callbacks(TrackingConfig(), "phase5") == []


def test_tensorboard_gets_each_epochs_numbers_in_the_trials_folder() -> None:
    (callback,) = tracking_callbacks(TrackingConfig(tensorboard=True), "phase5")
    callback._summary_writer_cls = Writer
    trial = TuneTrial()
    report = to_report({"epoch": 2, "loss": 0.5, "seconds": {"step": 1.0}}, {}, "its name")
    callback.log_trial_result(1, trial, {**report, "training_iteration": 2})
    writer = callback._trial_writer[trial]
    assert writer.folder == "/the/trial"
    assert writer.scalars == [("ray/tune/epoch", 2, 2), ("ray/tune/loss", 0.5, 2)]


def test_mlflow_is_told_the_server_and_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(MLflowLoggerCallback=lambda **options: options)
    monkeypatch.setitem(sys.modules, "ray.air.integrations.mlflow", module)
    (callback,) = tracking_callbacks(TrackingConfig(mlflow="http://127.0.0.1:5000"), "phase5")
    assert callback == {"tracking_uri": "http://127.0.0.1:5000", "experiment_name": "phase5"}


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")
def test_mlflow_without_its_package_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"^tracking\.mlflow: expected the package mlflow"):
        check_tracking(TrackingConfig(mlflow="http://127.0.0.1:5000"))
