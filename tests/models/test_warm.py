"""Kernels that are compiled beforehand are those that training asks for."""

import importlib

import torch
from numba.core.dispatcher import Dispatcher

from models.blocks.mamba import MambaBlock
from models.cpu import kernels
from models.warm import compile_kernels


def signatures() -> dict[str, int]:
    return {name: len(value.signatures) for name, value in vars(kernels).items() if isinstance(value, Dispatcher)}


def test_a_training_step_needs_no_kernel_that_was_not_compiled_beforehand(min_windows: int) -> None:
    importlib.reload(kernels)  # forget what other tests have compiled
    compile_kernels()
    before = signatures()
    block = MambaBlock(128, 32, d_conv=3, dropout=0.1)
    for low in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            result = block(torch.randn(min_windows + 3, 4, 128))
        result.square().sum().backward()
    assert sum(before.values()) > 0
    assert signatures() == before
