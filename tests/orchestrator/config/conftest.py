"""Experiments as text, read as from a file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config


@pytest.fixture
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """Return what reads the module's EXPERIMENT with overrides."""
    path = tmp_path / "experiment.yaml"
    path.write_text(request.module.EXPERIMENT)
    return lambda *overrides: load_config(path, overrides)
