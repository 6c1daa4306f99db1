"""Checkpoint in, unit predictions out."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data.payload import store as payloads
from models.training import checkpoint as checkpoints

DIM = 16


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write(path, dim):
    payloads.write_payload(
        path,
        vectors=unit(np.random.default_rng(0).standard_normal((30, dim))),
        article_index=np.zeros(30, np.int32),
        chunk_index=np.arange(30, dtype=np.int32),
        texts=["text"] * 30,
        titles={0: "title"},
        embedder="planted",
        source={},
    )
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("payload") / "payload", DIM)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import torch

    from models.blocks.build import build_variant

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    checkpoints.save_model(path, build_variant("amn", DIM), epoch=3, metrics={}, provenance={})
    return str(path)


@pytest.fixture
def windows():
    return np.arange(10, dtype=np.int32)[:, None] + np.arange(6, dtype=np.int32)


def predict(*args, **kwargs):
    from evaluation.service.predict import predict as function

    return function(*args, **kwargs)


def test_predictions_are_the_models_last_position_whatever_the_batch_size(checkpoint, folder, windows):
    import torch

    model = checkpoints.load_model(checkpoint).model
    vectors = np.array(payloads.open_payload(folder).vectors)
    with torch.no_grad():
        expected = model(torch.from_numpy(vectors[windows[:, :-1]]))[:, -1].numpy()
    for batch_size in (1, 3, 64):
        answer = predict(checkpoint, folder, windows, batch_size=batch_size)
        np.testing.assert_allclose(answer["predictions"], expected, atol=1e-5)


def test_predictions_have_norm_one_and_come_with_the_files_hash_and_epoch(checkpoint, folder, windows):
    answer = predict(checkpoint, folder, windows, latency_queries=3)
    np.testing.assert_allclose(np.linalg.norm(answer["predictions"], axis=1), 1.0, atol=1e-5)
    assert answer["predictions"].dtype == np.float32
    assert answer["sha256"] == hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    assert answer["epoch"] == 3
    assert answer["params"] > 0
    assert answer["predict_p95_ms"] > 0


def test_the_target_is_never_read(checkpoint, folder, windows):
    other = windows.copy()
    other[:, -1] = 29
    first, second = (predict(checkpoint, folder, w, latency_queries=0)["predictions"] for w in (windows, other))
    np.testing.assert_array_equal(first, second)


def test_a_model_of_another_dimension_is_refused(checkpoint, windows, tmp_path):
    with pytest.raises(ValueError, match=r"best.pt: expected .* dimension"):
        predict(checkpoint, write(tmp_path / "payload", 8), windows)
