"""The optimizer: AdamW with decay on matrices only, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models.spec.optim import OptimConfig, lr_factor

NO_DECAY_NAMES = ("A_log", "D", "dt_bias")
"""Decay would pull these towards 0, which stands for a decay rate of 1, no skip connection and dt = 0.69."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices with weight decay; norms, biases, the learned mix, A, D and dt without."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            named = name.rsplit(".", maxsplit=1)[-1] in NO_DECAY_NAMES
            (free if named or parameter.dim() < 2 else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over the model's parameter groups, at the peak learning rate.

    A loss with a learned temperature has a parameter too: pass `nn.ModuleList([model, loss])`.
    """
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,  # one pass over parameter, gradient and both means, on CPU and CUDA alike
    )


def set_lr(optimizer: torch.optim.Optimizer, step: int, total_steps: int, config: OptimConfig) -> float:
    """Set the learning rate of `step` on every group and return it."""
    lr = config.lr * lr_factor(step, total_steps, config)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def clip_gradients(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Tensor:
    """Scale the gradients down to a joint norm of `grad_clip`; return the norm before, not finite on divergence."""
    limit = config.grad_clip if config.grad_clip > 0.0 else float("inf")
    return torch.nn.utils.clip_grad_norm_(parameters, limit)
