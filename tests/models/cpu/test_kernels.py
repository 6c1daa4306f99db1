"""The compiled kernels one by one; together they are held against library operations in test_fused."""

import numpy as np
import pytest
import torch
from numba import njit

from models.blocks.mamba import MambaBlock
from models.cpu import kernels
from models.cpu.fused import head_ranges


def sigmoid_of(values: list[float], dtype: type) -> np.ndarray:
    x = np.array([values], dtype)
    out = np.empty_like(x)
    kernels.sigmoids(x, out, np.empty(len(values), np.int32))
    return out[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1.5e-7), (np.float64, 1e-15)])
def test_sigmoid_is_exact_to_its_type_over_the_whole_range(dtype: type, tolerance: float) -> None:
    x = np.linspace(-100.0, 100.0, 20_001)
    want = torch.sigmoid(torch.from_numpy(x.astype(dtype)).double()).numpy()
    assert np.abs(sigmoid_of(list(x), dtype) - want).max() < tolerance


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_ends_at_nought_and_one(dtype: type) -> None:
    low, middle, high = sigmoid_of([-1e30, 0.0, 1e30], dtype)
    assert low < 1e-37
    assert middle == 0.5
    assert high == 1.0


@njit
def through_store_and_load(values: np.ndarray, stored: np.ndarray) -> np.ndarray:
    kernels.store(values, stored)
    return kernels.load(stored, np.empty_like(values))


def test_bfloat16_is_rounded_as_torch_rounds_it_and_widened_exactly() -> None:
    values = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 1.00390625, 1.01171875, 3e38, 1e-40, torch.inf])])
    stored = np.empty((1, len(values)), np.int16)
    back = through_store_and_load(values[None].numpy(), stored)
    assert torch.equal(torch.from_numpy(stored[0]).view(torch.bfloat16), values.bfloat16())
    assert torch.equal(torch.from_numpy(back[0]), values.bfloat16().float())


def test_what_is_not_a_number_stays_so_in_bfloat16() -> None:
    back = through_store_and_load(np.array([[np.nan]], np.float32), np.empty((1, 1), np.int16))
    assert np.isnan(back[0, 0])


def test_pairs_of_positions_are_numbered_without_gaps() -> None:
    assert [kernels.pair(t, s) for t in range(4) for s in range(t + 1)] == list(range(10))


def test_the_convolution_sees_its_own_and_older_positions_only() -> None:
    mixed = np.array([[1.0], [10.0], [100.0]])  # one window of three positions
    conv, bias = np.array([[3.0], [2.0]]), np.array([0.5])  # two taps, the newest last
    before = np.empty_like(mixed)
    kernels.convolve(mixed, conv, bias, 0, before)
    assert before[:, 0].tolist() == [0.5 + 2, 0.5 + 20 + 3, 0.5 + 200 + 30]


def test_the_mixing_matrix_fades_by_the_steps_in_between() -> None:
    scores = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])  # pairs 00 10 11 20 21 22 of one window
    dt, step = np.array([[[0.5], [0.25], [2.0]]]), np.array([[[0.9], [0.1], [0.3]]])  # one head
    decays, mixing = np.empty((2, 1, 6, 1))
    kernels.mixing_matrix(scores, dt, step, np.array([7.0]), decays, mixing)
    assert np.allclose(decays[0, :, 0], [1, 0.1, 1, 0.03, 0.3, 1])
    assert np.allclose(mixing[0, :, 0], [0.5 + 7, 0.1, 0.75 + 7, 4 * 0.03 * 0.5, 5 * 0.3 * 0.25, 12 + 7])


def test_every_head_falls_into_exactly_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert head_ranges(8) == [(0, 2), (2, 5), (5, 8)]
    assert head_ranges(2) == [(0, 1), (1, 2)]


def test_threads_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block, u = MambaBlock(16, 6, head_dim=8).double(), torch.randn(3, 5, 16).double()

    def run(threads: int) -> list[torch.Tensor]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        y = block(u)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), list(block.parameters()))]

    for one, several in zip(run(1), run(3), strict=True):
        assert torch.allclose(one, several, rtol=1e-12)


def test_weights_of_a_type_without_kernels_take_the_composed_form() -> None:
    block = MambaBlock(16, 6, head_dim=8).bfloat16()
    assert block(torch.randn(2, 5, 16).bfloat16()).dtype == torch.bfloat16
