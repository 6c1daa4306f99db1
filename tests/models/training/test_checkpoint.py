"""Checkpoints: bit-equal in a clean process, one clear line when something is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.blocks.build import build_variant
from models.training.checkpoint import (
    load_model,
    load_training_state,
    save_model,
    save_training_state,
    state_sha256,
)

SMALL = {"d_model": 16, "num_heads": 2, "d_state": 6, "head_dim": 8}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_variant("mamba_sandwich", 12, **SMALL)


@pytest.fixture
def path(tmp_path: Path, model) -> Path:
    path = tmp_path / "best.pt"
    save_model(path, model, epoch=4, metrics={"r@5": 0.25}, provenance={"corpus": "abc"})
    return path


def assert_one_line(error: Exception, path: Path, *words: str) -> None:
    message = str(error)
    assert message.startswith(f"{path}: expected ") and "\n" not in message and "; " in message
    assert all(word in message for word in words), message


def test_a_checkpoint_carries_its_configuration(path: Path, model) -> None:
    loaded = load_model(path, dim=12)
    assert (loaded.spec, loaded.dim, loaded.epoch) == (model.spec, 12, 4)
    assert (loaded.metrics, loaded.provenance) == ({"r@5": 0.25}, {"corpus": "abc"})
    assert not loaded.model.training
    assert state_sha256(loaded.model) == state_sha256(model)


def test_it_predicts_bit_equal_in_a_clean_process(path: Path, model, tmp_path: Path) -> None:
    context = torch.nn.functional.normalize(torch.randn(3, 5, 12), dim=-1)
    torch.save(context, tmp_path / "context.pt")
    code = (
        "import sys, torch; from models.training.checkpoint import load_model; torch.set_num_threads(1)\n"
        "folder = sys.argv[1]\n"
        "with torch.no_grad(): y = load_model(f'{folder}/best.pt').model(torch.load(f'{folder}/context.pt'))\n"
        "torch.save(y, f'{folder}/predictions.pt')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        want = model.eval()(context)
    torch.set_num_threads(threads)
    assert torch.equal(torch.load(tmp_path / "predictions.pt"), want)


def test_the_file_loads_with_weights_only_and_holds_plain_values(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    assert content["spec"]["variant"] == "mamba_sandwich"
    assert all(isinstance(tensor, torch.Tensor) for tensor in content["state"].values())


def test_a_compiled_or_parallel_wrapper_is_saved_as_its_inner_model(tmp_path: Path, model) -> None:
    wrapped = torch.nn.Module()
    wrapped.module = model
    save_model(tmp_path / "wrapped.pt", wrapped, epoch=0, metrics={}, provenance={})
    assert state_sha256(load_model(tmp_path / "wrapped.pt").model) == state_sha256(model) == state_sha256(wrapped)


def test_the_digest_sees_one_changed_bit(model) -> None:
    before = state_sha256(model)
    with torch.no_grad():
        model.embed.bias[0].add_(1e-7)
    assert state_sha256(model) != before


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_model(tmp_path / "none.pt")
    assert_one_line(caught.value, tmp_path / "none.pt", "no such file")


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_truncated_file_is_one_line(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="unreadable") as caught:
        load_model(path)
    assert_one_line(caught.value, path, "train the variant again")


def test_another_dimension_is_one_line(path: Path) -> None:
    with pytest.raises(ValueError, match="dimension 768, got dimension 12") as caught:
        load_model(path, dim=768)
    assert_one_line(caught.value, path)


def altered(path: Path, **changes) -> None:
    content = torch.load(path, weights_only=True)
    content.update(changes)
    torch.save(content, path)


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(path: Path) -> None:
    state = torch.load(path, weights_only=True)["state"]
    lacking = {name: tensor for name, tensor in state.items() if name != "embed.weight"}
    cases = [
        (lacking, "embed.weight missing"),
        ({**state, "stray": torch.zeros(1)}, "stray not expected"),
        ({**state, "embed.bias": torch.zeros(3)}, "embed.bias of shape (3,) instead of (16,)"),
        ({**lacking, "stray": torch.zeros(1)}, "and 1 more"),
    ]
    for changed, words in cases:
        altered(path, state=changed)
        with pytest.raises(ValueError, match="tensors as its own configuration says") as caught:
            load_model(path)
        assert_one_line(caught.value, path, words)


def test_another_format_and_another_kind_of_file_are_one_line(path: Path) -> None:
    altered(path, format=99)
    with pytest.raises(ValueError, match="of format 99") as caught:
        load_model(path)
    assert_one_line(caught.value, path)
    save_training_state(path, {"step": 1})
    with pytest.raises(ValueError, match="without dim, epoch") as caught:
        load_model(path)
    assert_one_line(caught.value, path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"state": print}, path)
    with pytest.raises(ValueError, match="unreadable") as caught:
        load_model(path)
    assert_one_line(caught.value, path)


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
