"""Kernels that are compiled beforehand are those that training asks for."""

import torch

from models import kernels
from models.mamba import MambaBlock
from models.warm import compile_kernels

ALL = (
    kernels.score_pairs,
    kernels.mixing_matrix,
    kernels.mix_and_gate,
    kernels.mix_and_gate_backward,
    kernels.mixing_matrix_backward,
    kernels.score_pairs_backward,
)


def test_a_training_step_needs_no_kernel_that_was_not_compiled_beforehand() -> None:
    compile_kernels()
    compiled = [len(kernel.signatures) for kernel in ALL]
    block = MambaBlock(128, 32, d_conv=3, dropout=0.1)
    for low in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            result = block(torch.randn(7, 4, 128))
        result.square().sum().backward()
    assert [len(kernel.signatures) for kernel in ALL] == compiled
