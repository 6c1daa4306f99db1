"""Causal mixing along diagonals against full matrices."""

import pytest
import torch

import models.diagonals
from models.diagonals import decays, decays_backward, dot, dot_backward, mix, mix_backward

LENGTH, BATCH = 4, 3


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def as_matrix(diagonals: list[torch.Tensor]) -> torch.Tensor:
    """Return (..., L, L, B) with zeros above the diagonal."""
    matrix = torch.zeros(*diagonals[0].shape[:-2], LENGTH, LENGTH, BATCH, dtype=torch.float64)
    for k, diagonal in enumerate(diagonals):
        for row in range(LENGTH - k):
            matrix[..., row + k, row, :] = diagonal[..., row, :]
    return matrix


@pytest.mark.parametrize("cached_values", [1, 130, 1000])  # one head, two of three, all at a time
def test_mixing_and_its_gradients_are_those_of_the_full_matrix(
    cached_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.diagonals, "CACHED_VALUES", cached_values)
    diagonals = [normal(3, LENGTH - k, BATCH, seed=k).requires_grad_() for k in range(LENGTH)]
    x, grad = normal(3, 5, LENGTH, BATCH, seed=9).requires_grad_(), normal(3, 5, LENGTH, BATCH, seed=10)
    want = torch.einsum("htsb,hpsb->hptb", as_matrix(diagonals), x)
    assert torch.allclose(mix(diagonals, x), want)
    d_x, *d_diagonals = torch.autograd.grad(want, [x, *diagonals], grad)
    out = torch.empty_like(x)
    got = mix_backward(grad, [diagonal.detach() for diagonal in diagonals], x.detach(), out)
    assert torch.allclose(out, d_x)
    assert all(torch.allclose(ours, theirs) for ours, theirs in zip(got, d_diagonals, strict=True))


def test_products_and_their_gradients_are_those_of_the_full_matrix() -> None:
    left, right = (normal(6, LENGTH, BATCH, seed=seed).requires_grad_() for seed in (1, 2))
    want = torch.einsum("ntb,nsb->tsb", left, right) * torch.ones(LENGTH, LENGTH).tril()[..., None]
    assert torch.allclose(as_matrix(dot(left, right)), want)
    grads = [normal(LENGTH - k, BATCH, seed=k) for k in range(LENGTH)]
    d_left, d_right = torch.autograd.grad(want, (left, right), as_matrix(grads))
    ours = torch.empty_like(left), torch.empty_like(right)
    dot_backward(grads, left.detach(), right.detach(), *ours)
    assert torch.allclose(ours[0], d_left) and torch.allclose(ours[1], d_right)


def test_decays_of_hand_made_steps() -> None:
    step = torch.tensor([0.5, 0.2, 0.1]).view(1, 3, 1)
    assert [diagonal.flatten().tolist() for diagonal in decays(step)] == [
        [1.0, 1.0, 1.0],
        [torch.tensor(0.2).item(), torch.tensor(0.1).item()],  # step[1], step[2]
        [torch.tensor(0.1).mul(torch.tensor(0.2)).item()],  # step[2] * step[1]
    ]


def test_the_gradient_of_decays_reaches_the_logarithm_of_every_step() -> None:
    log_step = -normal(2, LENGTH, BATCH).abs().requires_grad_()
    diagonals = decays(log_step.exp())
    grads = [normal(*diagonal.shape, seed=k) for k, diagonal in enumerate(diagonals)]
    want = torch.autograd.grad(diagonals[1:], log_step, grads[1:])[0]
    with_values = [grad * diagonal.detach() for grad, diagonal in zip(grads, diagonals, strict=True)]
    assert torch.allclose(decays_backward(with_values), want)
