"""A model of somebody else among our own: built by its import path, its outputs float32 and of unit norm."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import UserError
from models.spec.imported import ImportedSpec, load_object


class ImportedModel(nn.Module):
    """The module that a spec names, as a causal map (B, L, D) -> (B, L, D)."""

    def __init__(self, spec: ImportedSpec, dim: int) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        kind = load_object("model", spec.path)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise UserError(f"model: expected a class of torch modules, got {spec.path}; name another one")
        try:
            self.inner = kind(dim, **spec.sizes)
        except TypeError as error:
            raise UserError(
                f"model: expected {spec.path} to be built with (dim, **sizes), got {error}; correct the sizes"
            ) from error

    def forward(self, context: Tensor) -> Tensor:
        """Map the context's unit vectors (B, L, D) to predictions (B, L, D), float32, unit norm."""
        # Normalised again: under bfloat16 the norm of a rounded vector is off by more than an evaluation allows.
        return F.normalize(self.inner(context).float(), dim=-1)
