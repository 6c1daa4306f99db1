"""Other models, and another way to take weights from training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.blocks.baselines import Linear
from models.blocks.head import HeadInput, PredictionHead
from models.spec.specs import LinearSpec
from orchestrator.trials.learner import Learner

LOW_RANK = 128
DECAY = 0.99
NUM_FEATURES = 3_000


class AveragedLearner(Learner):
    """Validates, and leaves for its predictions, a running mean of the weights over about 1 / (1 - DECAY) steps."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._mean = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        self._trained: dict[str, Tensor] | None = None

    def start_epoch(self, epoch: int) -> None:
        if self._trained is not None:
            self.model.load_state_dict(self._trained)
        super().start_epoch(epoch)

    def step(self, rows: NDArray[np.int32]) -> dict[str, float]:
        losses = super().step(rows)
        self._mean.update_parameters(self.model)
        return losses

    def validate(self, windows: NDArray[np.int32], novel: NDArray[np.bool_]) -> dict[str, float]:
        self._trained = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self._mean.module.state_dict())
        return super().validate(windows, novel)


class LowRank(Linear):
    """`linear` whose correction of the line has LOW_RANK dimensions."""

    def __init__(self, spec: LinearSpec, dim: int) -> None:
        super().__init__(spec, dim)
        last = nn.Linear(LOW_RANK, dim, bias=False)
        nn.init.zeros_(last.weight)
        # The head calls its projection and asks it for nothing else.
        self.head.proj = cast(nn.Linear, nn.Sequential(nn.Linear(spec.num_chunks * dim, LOW_RANK, bias=False), last))


class RandomFeatures(Linear):
    """`linear` with random cosines of the context beside the chunks: a kernel machine of given width.

    Source: Rahimi & Recht 2007, Random Features for Large-Scale Kernel Machines.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, spec: LinearSpec, dim: int, *, width: float, decay: float) -> None:
        super().__init__(spec, dim)
        by_lag = decay ** torch.arange(spec.num_chunks)  # the nearest chunk first
        frequencies = torch.randn(spec.num_chunks, dim, NUM_FEATURES) * by_lag[:, None, None] / width
        self.register_buffer("frequencies", frequencies.flatten(0, 1))
        self.register_buffer("phases", 2 * math.pi * torch.rand(NUM_FEATURES))
        self.head = PredictionHead(spec.num_chunks * dim + NUM_FEATURES, dim, spec.residual, norm=False)

    def encode(self, context: Tensor) -> HeadInput:
        chunks, context, rotations = super().encode(context)
        # As large as the chunks are: each has the norm 1.
        features = torch.cos(chunks @ self.frequencies + self.phases) * math.sqrt(2 / NUM_FEATURES)
        return torch.cat([chunks, features], dim=-1), context, rotations


class FrozenModel(nn.Module):
    """A trained model in the place of the fitted line."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> FrozenModel:
        return self

    def forward(self, context: Tensor) -> Tensor:
        predictions: Tensor = self.model(context)
        return predictions


def built_by(build: Callable[[Any, int], nn.Module]) -> Any:
    """Let learners that are made within have models of this function of spec and dimension."""
    return mock.patch("orchestrator.trials.learner.build_model", build)


def without_own_span(predictions: Tensor, context: Tensor, share: float) -> Tensor:
    """Take a share of what lies in the span of the context (Q, L, D) from predictions (Q, D)."""
    inside = (torch.linalg.pinv(context) @ (context @ predictions[..., None])).squeeze(-1)
    return F.normalize(predictions - share * inside, dim=-1)


def without_own_mean(predictions: Tensor, context: Tensor, share: float) -> Tensor:
    """Take a share of the context's mean direction from predictions (Q, D)."""
    return F.normalize(predictions - share * F.normalize(context.mean(1), dim=-1), dim=-1)
