"""Small models and unit rows for the tests of models."""

from typing import Any

import torch
import torch.nn.functional as F

from models.blocks.build import Model, build_variant
from models.spec.registry import VARIANTS

SSM = {"d_model": 16, "d_state": 6, "head_dim": 8}
SIZES: dict[str, dict[str, Any]] = {
    "mamba_s": SSM | {"ssm_layers": 2},
    "mamba_h": SSM | {"num_heads": 2, "num_groups": 2, "ssm_per_group": 1},
    "mamba_xl": SSM | {"ssm_layers": 3},
    "mamba_sandwich": SSM | {"num_heads": 2, "attention_layers": 1, "ssm_layers": 2},
    "mamba_gr": SSM | {"ssm_layers": 2, "gru_hidden": 8},
    "amn": {"d_model": 16, "num_heads": 2, "direct_chunks": 3},
    "linear": {"num_chunks": 4},
}
NAMES = list(VARIANTS)


def small(name: str, dim: int = 12, **overrides: Any) -> Model:
    """Return a variant of a few thousand parameters, the same at every call."""
    torch.manual_seed(0)
    return build_variant(name, dim, **{**SIZES[name], "dropout": 0.0, **overrides})


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random rows of norm 1."""
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)
