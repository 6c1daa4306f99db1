"""From a spec to a module."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import Any

from torch import nn

from models.blocks.backbone import Backbone, ResidualLayer
from models.blocks.baselines import Amn, Linear
from models.blocks.head import PredictionHead
from models.blocks.imported import ImportedModel
from models.spec.imported import ImportedSpec
from models.spec.ranges import at_least
from models.spec.registry import make_spec
from models.spec.specs import AmnSpec, LinearSpec, MambaSpec, VariantSpec

OwnModel = Backbone | Amn | Linear
Model = OwnModel | ImportedModel


def build_model(spec: VariantSpec | ImportedSpec, dim: int) -> Model:
    """Return the freshly initialised model for vectors of width `dim`; it carries `spec` and `dim` as attributes.

    Raises UserError when a spec names a model of somebody else that cannot be imported or built.
    """
    at_least("dim", dim, 1)
    if isinstance(spec, ImportedSpec):
        return ImportedModel(spec, dim)
    if isinstance(spec, AmnSpec):
        return Amn(spec, dim)
    if isinstance(spec, LinearSpec):
        return Linear(spec, dim)
    assert isinstance(spec, MambaSpec)
    return Backbone(spec, dim)


def build_variant(name: str, dim: int, **overrides: Any) -> Model:
    """Return variant `name` for vectors of width `dim`, its sizes replaced by `overrides`.

    Raises UserError on an unknown name or key, listing the legal ones.
    """
    return build_model(make_spec(name, **overrides), dim)


def compile_layers(model: nn.Module) -> None:
    """Let torch.compile fuse the kernels of the head and of each residual layer, one kind of layer once for all of it.

    Compiling the model as one takes as many times longer as it has layers, and a step is no faster.
    """
    for module in model.modules():
        if isinstance(module, ResidualLayer | PredictionHead):
            module.compile(dynamic=False)


def can_compile() -> bool:
    """Say whether torch.compile can make kernels for a GPU here: it needs Triton and a C compiler."""
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return find_spec("triton") is not None and any(shutil.which(name) for name in compilers if name)
