"""Checkpoints: the same predictions from the file alone, one clear line when something is wrong."""

import io
from pathlib import Path

import pytest
import torch

from models.training.checkpoint import load_model, load_training_state, save_model, save_training_state
from tests.models.helpers import small, unit


@pytest.fixture
def model():
    return small("mamba_sandwich")


@pytest.fixture
def path(tmp_path: Path, model) -> Path:
    path = tmp_path / "best.pt"
    save_model(path, model, epoch=4, metrics={"r@5": 0.25}, provenance={"corpus": "abc"})
    return path


def assert_one_line(path: Path, *words: str, dim: int | None = None, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind) as caught:
        load_model(path, dim=dim)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ") and "\n" not in message and "; " in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_checkpoint_rebuilds_the_model_with_what_it_was_saved_with(path: Path, model, in_memory: bool) -> None:
    memory = io.BytesIO()
    save_model(memory, model, epoch=4, metrics={"r@5": 0.25}, provenance={"corpus": "abc"})
    memory.seek(0)
    loaded = load_model(memory if in_memory else path, dim=12)
    assert (loaded.spec, loaded.dim, loaded.epoch) == (model.spec, 12, 4)
    assert (loaded.metrics, loaded.provenance) == ({"r@5": 0.25}, {"corpus": "abc"})
    assert not loaded.model.training
    with torch.no_grad():
        assert torch.equal(loaded.model(unit(3, 5, 12)), model.eval()(unit(3, 5, 12)))


def test_the_file_loads_with_weights_only_and_holds_plain_values(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    assert content["spec"]["variant"] == "mamba_sandwich"
    assert all(isinstance(tensor, torch.Tensor) for tensor in content["state"].values())


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert_one_line(tmp_path / "none.pt", "no such file", kind=FileNotFoundError)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_truncated_file_is_one_line(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    assert_one_line(path, "unreadable", "train the variant again")


def test_another_dimension_is_one_line(path: Path) -> None:
    assert_one_line(path, "dimension 768, got dimension 12", dim=768)


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    state = content["state"]
    lacking = {name: tensor for name, tensor in state.items() if name != "embed.weight"}
    cases = [
        (lacking, "embed.weight missing"),
        ({**state, "stray": torch.zeros(1)}, "stray not expected"),
        ({**state, "embed.bias": torch.zeros(3)}, "embed.bias of shape (3,) instead of (16,)"),
        ({**lacking, "stray": torch.zeros(1)}, "and 1 more"),
    ]
    for changed, words in cases:
        torch.save({**content, "state": changed}, path)
        assert_one_line(path, "tensors as its own configuration says", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"step": 1}, "without dim, epoch"),
        ({"state": print}, "unreadable"),  # the code in a file is not run
        ([1], "got a list"),
    ],
)
def test_another_kind_of_file_is_one_line(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert_one_line(tmp_path / "other.pt", words)


def test_another_format_is_one_line(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "format": 99}, path)
    assert_one_line(path, "of format 99")


def test_a_model_of_another_version_is_one_line_that_names_the_file_and_the_key(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "spec": {**content["spec"], "rank": 128}}, path)
    assert_one_line(path, "mamba_sandwich.rank", "the version that saved it")


def test_a_training_state_returns_as_it_was_and_leaves_no_other_file(tmp_path: Path, model) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.randn(2, 5, 12)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "epoch": 3}
    save_training_state(tmp_path / "last.pt", state)
    loaded = load_training_state(tmp_path / "last.pt")
    assert loaded["epoch"] == 3 and torch.equal(loaded["rng"], state["rng"])
    assert torch.equal(loaded["model"]["embed.weight"], model.embed.weight)
    moments = loaded["optimizer"]["state"][0]
    assert torch.equal(moments["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_a_checkpoint_carries_its_own_sha256_which_is_compared(tmp_path: Path) -> None:
    save_training_state(tmp_path / "last.pt", {"weights": torch.zeros(4_096)})
    content = (tmp_path / "last.pt").read_bytes()
    where = content.index(bytes(4_096)) + 2_048  # a weight, which nothing else would notice
    (tmp_path / "last.pt").write_bytes(content[:where] + b"\x01" + content[where + 1 :])
    with pytest.raises(ValueError, match=r"last\.pt: expected a complete checkpoint .*another sha256 than it says"):
        load_training_state(tmp_path / "last.pt")


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    save_model(tmp_path / "best.pt", small("amn"), epoch=1, metrics={}, provenance={})
    for device in ("cuda:99", "tpu"):
        with pytest.raises(ValueError, match=f"device: expected one that torch finds here, got {device}"):
            load_model(tmp_path / "best.pt", device=device)
