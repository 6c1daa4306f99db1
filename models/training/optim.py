"""The optimizer: AdamW with decay on matrices only, a learning rate of its own for a direct path, gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn

from models.spec.optim import OptimConfig, lr_factor

DIRECT_PATH = "head.direct.weight"
"""How the name of a direct path's matrix ends (`PredictionHead`)."""
NO_DECAY_NAMES = ("A_log", "D", "dt_bias")
"""Decay would pull these towards 0, which stands for a decay rate of 1, no skip connection and dt = 0.69."""


class AdamW(torch.optim.AdamW):
    """torch's AdamW, without what its methods do for a compiler that never sees them here.

    Their decorators import torch._dynamo at the first call: a quarter of what a process does before its first step.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices with weight decay; norms, biases, the learned mix, A, D and dt without.

    A group's `lr_scale` is its learning rate in multiples of the schedule's; the matrix of a direct path has its own.
    """
    decayed: list[nn.Parameter] = []
    direct: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            undecayed = name.rsplit(".", maxsplit=1)[-1] in NO_DECAY_NAMES or parameter.dim() < 2
            (free if undecayed else direct if name.endswith(DIRECT_PATH) else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, "lr_scale": 1.0},
        {"params": direct, "weight_decay": config.weight_decay, "lr_scale": config.direct_lr_scale},
        {"params": free, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """Return AdamW over the model's parameter groups, at the peak learning rate.

    A loss with a learned temperature has a parameter too: pass `nn.ModuleList([model, loss])`. On a GPU a group's rate
    is a tensor of its own, and the step can be recorded: see `models.training.replay`.
    """
    groups = parameter_groups(model, config)
    device = groups[0]["params"][0].device
    on_gpu = device.type == "cuda"
    for group in groups:
        lr = config.lr * group["lr_scale"]
        group["lr"] = torch.tensor(lr, device=device) if on_gpu else lr
    return AdamW(
        groups,
        capturable=on_gpu,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,  # one pass over parameter, gradient and both means, on CPU and CUDA alike
    )


def set_lr(optimizer: torch.optim.Optimizer, step: int, total_steps: int, config: OptimConfig) -> float:
    """Set the learning rate of `step` on every group, times the group's scale, and return the unscaled one."""
    lr = config.lr * lr_factor(step, total_steps, config)
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["lr_scale"])
        else:
            group["lr"] = lr * group["lr_scale"]
    return lr


def step_if_finite(optimizer: AdamW, norm: Tensor) -> None:
    """Update the weights, or change nothing at all where the gradient's norm is not finite; waits for no device."""
    # The fused kernel reads it, as it does for torch.amp.GradScaler: 1 for a gradient that must not be used.
    optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
    optimizer.step()


def optimizer_state(optimizer: AdamW) -> dict[str, Any]:
    """Return the optimizer's state, the same on every kind of device."""
    state: dict[str, Any] = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        del group["capturable"]
    return state


def load_optimizer_state(optimizer: AdamW, state: dict[str, Any]) -> None:
    """Restore what `optimizer_state` returned, perhaps on another kind of device."""
    pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
    groups = [{**saved, **{key: own[key] for key in ("lr", "lr_scale", "capturable")}} for saved, own in pairs]
    optimizer.load_state_dict({**state, "param_groups": groups})


def clip_gradients(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Tensor:
    """Scale the gradients down to a joint norm of `grad_clip`; return the norm before, not finite on divergence."""
    limit = config.grad_clip if config.grad_clip > 0.0 else float("inf")
    return torch.nn.utils.clip_grad_norm_(parameters, limit)
