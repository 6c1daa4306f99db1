"""The models and what trains them: SSD blocks, variants, the AMN baseline, losses, checkpoints.

Importing this package, `models.variants`, `models.loss_config` or `models.optim_config` does not import torch: the
driver of an experiment plans with them and stays light. `build_variant` is resolved at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.build import build_model, build_variant

__all__ = ["build_model", "build_variant"]


def __getattr__(name: str) -> Any:
    """Import `models.build`, and torch with it, when one of its functions is first asked for."""
    if name in __all__:
        from models import build

        return getattr(build, name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
