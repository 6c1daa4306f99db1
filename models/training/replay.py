"""A training step recorded once as a CUDA graph and replayed.

A step of these models is hundreds of short kernels, which take three times as long to launch one by one as to run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP_CALLS = 3
"""Calls that run as they are before one is recorded: libraries take their memory and caches are filled meanwhile."""


class Replayed:
    """A function of tensors on a GPU that launches kernels and never waits for the device.

    What it changes beside its result (weights, the optimizer's means) must stay where it is in memory. Random
    numbers are drawn anew in each replay, from the device's own generator, as in a plain call.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the function's result; the next call overwrites it. Inputs keep their shapes from call to call."""
        if self._calls < WARMUP_CALLS:
            self._calls += 1
            return self._beside_the_default_stream(inputs)
        if self._graph is None:
            self._record(inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        assert self._graph is not None and self._result is not None
        self._graph.replay()
        return self._result

    def _beside_the_default_stream(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Run the function on another stream, as recording will: autograd keeps things by stream."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(tensor.clone() for tensor in inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._function(*self._inputs)
