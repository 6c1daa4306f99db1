"""The registry of variants: which layers, in which order, of which size. Torch-free.

The sizes of each are a dataclass in `models.spec.specs`; their defaults are those of the original project.

| variant        | layers                                              |
|----------------|-----------------------------------------------------|
| mamba_s        | 8 SSM                                               |
| mamba_h        | 3 x (3 SSM, 1 local attention)                      |
| mamba_xl       | 16 SSM                                              |
| mamba_sandwich | 2 local attention, 8 SSM, 2 local attention         |
| mamba_gr       | 10 x (SSM behind a GRU gate)                        |
| amn            | attention over the prefix, queried by its mean      |
| linear         | one linear map of the last chunks                   |
"""

from __future__ import annotations

import dataclasses
from typing import Any

from data.errors import UserError
from models.spec.imported import ImportedSpec, is_import_path
from models.spec.ranges import suggestion
from models.spec.specs import (
    AmnSpec,
    LinearSpec,
    MambaGRSpec,
    MambaHSpec,
    MambaSandwichSpec,
    MambaSSpec,
    MambaXLSpec,
    VariantSpec,
)

VARIANTS: dict[str, type[VariantSpec]] = {
    spec.name: spec
    for spec in (MambaSSpec, MambaHSpec, MambaXLSpec, MambaSandwichSpec, MambaGRSpec, AmnSpec, LinearSpec)
}


def make_spec(name: str, **overrides: Any) -> VariantSpec:
    """Return the spec of variant `name` with its defaults replaced by `overrides`.

    Raises UserError on an unknown name or key (listing the legal ones) and on a value out of range.
    """
    if name not in VARIANTS:
        raise UserError(f"variant: expected one of {', '.join(VARIANTS)}, got {name!r}; {suggestion(name, VARIANTS)}")
    legal = [field.name for field in dataclasses.fields(VARIANTS[name])]
    for key in overrides:
        if key not in legal:
            raise UserError(f"{name}.{key}: expected one of {', '.join(legal)}, got {key!r}; {suggestion(key, legal)}")
    return VARIANTS[name](**overrides)


def spec_to_dict(spec: VariantSpec | ImportedSpec) -> dict[str, Any]:
    """Return the spec as plain values, its name under "variant"."""
    if isinstance(spec, ImportedSpec):
        return {"variant": spec.path, "sizes": spec.sizes}
    return {"variant": spec.name, **dataclasses.asdict(spec)}


def spec_from_dict(values: dict[str, Any]) -> VariantSpec | ImportedSpec:
    """Return the spec that `spec_to_dict` wrote."""
    overrides = dict(values)
    if is_import_path(overrides["variant"]):
        return ImportedSpec(path=overrides["variant"], sizes=overrides["sizes"])
    return make_spec(overrides.pop("variant"), **overrides)
