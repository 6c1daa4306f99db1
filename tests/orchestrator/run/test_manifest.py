"""What a run reads is noted by its content, so that nothing is continued on other inputs."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from data.config import DataConfig
from data.prepare import PreparedData, prepare_data
from data.windows.table import Splits
from evaluation.config import IndexConfig
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config
from orchestrator.run.manifest import input_hashes


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    path = tmp_path / "read.yaml"
    path.write_text("name: read\nvariants: {mamba_s: {}}\n")
    return load_config(path)


@pytest.fixture
def data(rotation_payload: Path, tmp_path: Path) -> PreparedData:
    return prepare_data(DataConfig(source="payload", payload=str(rotation_payload)), tmp_path, seed=3)


def test_one_window_less_is_another_input(config: ExperimentConfig, data: PreparedData) -> None:
    before = input_hashes(config, data)
    assert set(before) == {"data_sha256", "windows_sha256"}
    train, val, test = (table for _, table in data.splits.items())
    after = input_hashes(config, replace(data, splits=Splits(train, val, test.take(slice(1, None)))))
    assert after["data_sha256"] == before["data_sha256"]
    assert after["windows_sha256"] != before["windows_sha256"]


def test_an_index_file_is_noted_by_its_content(config: ExperimentConfig, data: PreparedData, tmp_path: Path) -> None:
    file = tmp_path / "corpus.faiss"
    file.write_bytes(b"index")
    named = config.model_copy(update={"index": IndexConfig(file=str(file))})
    assert input_hashes(named, data)["index_sha256"] == hashlib.sha256(b"index").hexdigest()
