"""How the weights are updated, and in which precision. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from models.spec.ranges import at_least, positive, within

Precision = Literal["auto", "float32", "bfloat16"]
"""Of the matrix products in training; "auto" is bfloat16 where the device multiplies it natively."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW with warm-up, cosine decay and gradient clipping."""

    lr: float = 1.0e-3
    """Peak learning rate; 0 trains nothing, which is a way to see pruning at work."""
    direct_lr_scale: float = 1.0
    """Learning rate of a direct path (`direct_chunks`), in multiples of that of all else."""
    weight_decay: float = 0.01
    """Decoupled decay of the matrices; norms, biases, A, D and dt have none."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.98
    """Decay of the squared gradient's running mean."""
    eps: float = 1.0e-8
    """Added to the root of the squared gradient's mean."""
    warmup_share: float = 0.05
    """Share of all steps over which the learning rate rises from 0, at least one step."""
    min_lr_share: float = 0.05
    """Share of the peak that the cosine ends at."""
    grad_clip: float = 1.0
    """Largest norm of all gradients together; 0 for no clipping."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        within("lr", self.lr, 0.0, 10.0)
        within("direct_lr_scale", self.direct_lr_scale, 0.0, 1000.0)
        within("weight_decay", self.weight_decay, 0.0, 10.0)
        within("beta1", self.beta1, 0.0, 1.0, open_high=True)
        within("beta2", self.beta2, 0.0, 1.0, open_high=True)
        positive("eps", self.eps)
        within("warmup_share", self.warmup_share, 0.0, 1.0, open_high=True)
        within("min_lr_share", self.min_lr_share, 0.0, 1.0)
        within("grad_clip", self.grad_clip, 0.0, 1e6)


def lr_factor(step: int, total_steps: int, config: OptimConfig) -> float:
    """Return the share of the peak learning rate at `step` (0-based) of `total_steps`.

    Linear warm-up, then half a cosine. Step 0 is already above 0, so that no step is wasted.
    Source of the cosine: arXiv 1608.03983, equation 5, one cycle.
    """
    at_least("total_steps", total_steps, 1)
    warmup = max(1, round(config.warmup_share * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup + 1) / max(1, total_steps - warmup))
    return config.min_lr_share + (1.0 - config.min_lr_share) * 0.5 * (1.0 + math.cos(math.pi * progress))
