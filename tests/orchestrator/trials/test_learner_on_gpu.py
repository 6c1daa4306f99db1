"""The learner on a GPU: the numbers of a CPU, from steps that are replayed, compiled or not, and exact resumes."""

import numpy as np
import pytest
import torch

from tests.orchestrator.trials.test_learner import learner, saved

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MODELS = ("mamba_s", "mamba_sandwich", "mamba_h", "mamba_xl", "amn")


def losses(payload, *, num_steps: int = 6, dropout: float = 0.0, **made_with) -> list[float]:
    """Some steps run plainly, the next is recorded, the others are replayed."""
    made, rows = learner(payload, dropout=dropout, **made_with)
    made.start_epoch(1)
    return [made.step(rows[start : start + 32])["loss"] for start in range(0, 32 * num_steps, 32)]


@pytest.mark.parametrize("model", MODELS)
def test_steps_on_a_gpu_have_the_losses_of_a_cpu(rotation_payload, model):
    on_cpu = losses(rotation_payload, model=model)
    np.testing.assert_allclose(losses(rotation_payload, model=model, device="cuda"), on_cpu, rtol=2e-3)


def test_replayed_steps_are_the_plain_steps_bit_for_bit(rotation_payload, monkeypatch):
    """With dropout: a replay draws the random numbers that a plain step draws."""
    replayed = losses(rotation_payload, device="cuda", dropout=0.2)
    monkeypatch.setattr("orchestrator.trials.learner.Replayed", lambda update: update)
    assert losses(rotation_payload, device="cuda", dropout=0.2) == replayed


@pytest.mark.parametrize("model", MODELS)
def test_compiled_steps_have_the_losses_of_plain_steps(rotation_payload, model):
    plain = losses(rotation_payload, model=model, device="cuda", precision="bfloat16")
    compiled = losses(rotation_payload, model=model, device="cuda", precision="bfloat16", compile=True)
    np.testing.assert_allclose(compiled, plain, rtol=1e-2)


@pytest.mark.parametrize("compile", [False, True])
def test_a_resumed_learner_on_a_gpu_goes_on_with_the_same_losses(rotation_payload, compile):
    whole, rows = learner(rotation_payload, device="cuda", compile=compile)
    whole.start_epoch(1)
    whole.step(rows[:32])
    state = torch.load(saved(whole.state()), weights_only=True, map_location="cpu")
    whole.start_epoch(2)
    expected = [whole.step(rows[start : start + 32])["loss"] for start in (32, 64, 96)]

    resumed, _ = learner(rotation_payload, device="cuda", compile=compile)
    resumed.load_state(state)
    resumed.start_epoch(2)
    found = [resumed.step(rows[start : start + 32])["loss"] for start in (32, 64, 96)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_same_seed_gives_the_same_losses_on_a_gpu(rotation_payload):
    assert losses(rotation_payload, device="cuda") == losses(rotation_payload, device="cuda")


@pytest.mark.parametrize("compile", [False, True])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone_on_a_gpu(rotation_payload, compile):
    made, rows = learner(rotation_payload, device="cuda", compile=compile)
    made.start_epoch(1)
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))
    before = [parameter.clone() for parameter in made.model.parameters()]
    assert not np.isfinite(made.step(rows[:32])["grad_norm"])
    for left, right in zip(before, made.model.parameters(), strict=True):
        assert torch.equal(torch.nan_to_num(left), torch.nan_to_num(right))


def test_scores_and_predictions_on_a_gpu_are_those_of_a_cpu(rotation_payload):
    on_cpu, rows = learner(rotation_payload)
    on_gpu, _ = learner(rotation_payload, device="cuda")
    on_gpu.load_state(torch.load(saved(on_cpu.state()), weights_only=True))
    np.testing.assert_allclose(on_gpu.predict(rows[:200]), on_cpu.predict(rows[:200]), atol=2e-3)
    novel = np.ones(200, bool)
    found, expected = on_gpu.validate(rows[:200], novel), on_cpu.validate(rows[:200], novel)
    assert found == pytest.approx(expected, abs=0.02)
