"""What somebody else wrote and an experiment names by import path, `package.module:name`. Torch-free.

A model is a torch module that is built with `(dim, **sizes)` and maps contexts (B, L, D) to unit predictions (B, L, D).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from data.errors import UserError, one_line

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Counts(NamedTuple):
    """What a model costs."""

    parameters: int
    flops: int
    """Operations of the matrix products of one forward pass over one window, 2 per multiply-add."""


_counted: dict[tuple[str, int], Counts] = {}
"""By model with its sizes, and D: only building one tells, which needs torch, so another process counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedSpec:
    """A model of somebody else and its sizes."""

    residual: ClassVar[str] = "none"

    path: str
    sizes: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the import path, where a variant of the registry has its name."""
        return self.path

    def count(self, dim: int, counts: Counts) -> None:
        """Keep what the model costs for D = `dim`, for this process."""
        _counted[json.dumps([self.path, self.sizes], sort_keys=True), dim] = counts

    def counts(self, dim: int) -> Counts:
        """Return what the model costs; it was counted when the experiment was checked."""
        return _counted[json.dumps([self.path, self.sizes], sort_keys=True), dim]


def is_import_path(text: str) -> bool:
    """Return whether a text is of the form `package.module:name`."""
    return ":" in text


def name_of(entry: str) -> str:
    """Return the name in rules and tables: of an import path what stands behind the colon."""
    return entry.partition(":")[2] or entry


def load_object(where: str, path: str) -> Any:
    """Import what a path names; `where` is the key that holds it. UserError when there is no such thing."""
    module, _, name = path.partition(":")
    if not _PATH.fullmatch(path):
        raise UserError(f"{where}: expected package.module:name, got {path!r}; correct the import path")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise UserError(f"{where}: expected {name} in {module}, got a module without it; correct the name") from None
    except Exception as error:  # somebody else's module may raise anything
        found = one_line(error) or type(error).__name__
        raise UserError(
            f"{where}: expected a module that can be imported, got {type(error).__name__} from {module} ({found}); "
            "start the command where the module lies, or install it"
        ) from error


def file_to_ship(path: str) -> str:
    """Return the folder of the package, or the file of the module, that an import path begins with."""
    found = importlib.util.find_spec(path.partition(":")[0].partition(".")[0])
    origin = None if found is None else found.origin
    locations = [] if found is None else [*(found.submodule_search_locations or ())]
    if locations:
        return str(Path(locations[0]))
    return str(origin)
