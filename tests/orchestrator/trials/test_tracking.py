"""TensorBoard and MLflow are off unless asked for, and asked for without their library they are refused in one line."""

from importlib.util import find_spec

import pytest

from orchestrator.config.experiment import TrackingConfig
from orchestrator.trials.tracking import check_tracking, tracking_callbacks


def test_nothing_is_tracked_elsewhere_by_default():
    assert tracking_callbacks(TrackingConfig(), "phase5") == []


def test_tensorboard_is_tunes_own_callback():
    (callback,) = tracking_callbacks(TrackingConfig(tensorboard=True), "phase5")
    assert type(callback).__name__ == "TBXLoggerCallback"


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")
def test_mlflow_without_its_package_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"^tracking\.mlflow: expected the package mlflow"):
        check_tracking(TrackingConfig(mlflow="http://127.0.0.1:5000"))
