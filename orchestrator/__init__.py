"""A whole run: experiment file in, comparison table out. In Python: `from orchestrator import launch`.

The command `python -m orchestrator.launch` is in launch.py, which nothing imports: the name stays the function's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api import launch

__all__ = ["launch"]


def __getattr__(name: str) -> Any:
    """Import the function when it is asked for: worker processes import this package and do not need it."""
    if name == "launch":
        from orchestrator.api import launch

        return launch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
