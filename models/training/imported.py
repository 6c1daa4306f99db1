"""Whether a model of somebody else is what a trial needs: checked on random contexts before anything trains."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from data.errors import UserError, one_line
from models.blocks.imported import ImportedModel
from models.spec.imported import Counts, ImportedSpec

_BATCH = 4
_NORM_TOLERANCE = 1e-3
_SAME = 1e-4
"""Largest difference of an earlier position when later ones change: rounding, not a look ahead."""


def count_models(specs: dict[str, ImportedSpec], dim: int, length: int) -> dict[str, Counts]:
    """Check the models by the names of their variants, for contexts (B, L, D), and return what each costs.

    Raises:
        UserError: one cannot be imported or built, maps to another shape, not to finite unit vectors, or looks ahead.
    """
    return {name: _count(f"variants.{name}.model", spec, dim, length) for name, spec in specs.items()}


def _count(where: str, spec: ImportedSpec, dim: int, length: int) -> Counts:
    torch.manual_seed(0)
    try:
        model = ImportedModel(spec, dim).eval()
    except UserError as error:
        raise UserError(f"variants.{where.split('.')[1]}.{error}") from error
    context = torch.nn.functional.normalize(torch.randn(_BATCH, length, dim), dim=-1)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            found = model.inner(context)
    except Exception as error:  # somebody else's code may raise anything
        raise UserError(
            f"{where}: expected a map of ({_BATCH}, {length}, {dim}), got {type(error).__name__} ({one_line(error)}); "
            "correct the model"
        ) from error
    _check_output(where, found, context)
    _check_causal(where, model, context)
    num = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not num:
        raise UserError(f"{where}: expected a model with weights to train, got none; make it a baseline")
    return Counts(num, int(counter.get_total_flops()) // _BATCH)


def _check_output(where: str, found: object, context: Tensor) -> None:
    if not isinstance(found, Tensor) or found.shape != context.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(
            f"{where}: expected predictions of shape {tuple(context.shape)}, got {shape}; one vector a position"
        )
    norms = found.float().norm(dim=-1)
    if not bool((norms - 1.0).abs().max() <= _NORM_TOLERANCE):  # NaN, too
        raise UserError(
            f"{where}: expected predictions of norm 1, got norms from {norms.min():.4g} to {norms.max():.4g}; "
            "end forward with torch.nn.functional.normalize(..., dim=-1)"
        )


@torch.inference_mode()
def _check_causal(where: str, model: ImportedModel, context: Tensor) -> None:
    """Change all that comes after each position: what is predicted there must stay."""
    whole = model(context)
    for position in range(context.shape[1] - 1):
        changed = context.clone()
        changed[:, position + 1 :] = -changed[:, position + 1 :].flip(0)
        moved = float((model(changed)[:, : position + 1] - whole[:, : position + 1]).abs().max())
        if moved > _SAME:
            raise UserError(
                f"{where}: expected position {position} to see no later one, got a prediction that changes by "
                f"{moved:.2g} with them; mask what is ahead: training would learn to copy"
            )
