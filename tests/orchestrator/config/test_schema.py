"""Every key that an experiment file may hold is read by some code: a key that does nothing must not be accepted."""

import ast
import dataclasses
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from models.spec.registry import VARIANTS
from orchestrator.config.experiment import ExperimentConfig

REPOSITORY = Path(__file__).parents[3]
PACKAGES = ("orchestrator", "evaluation", "models", "data")


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))


def inner_kinds(annotation: Any) -> Iterator[Any]:
    """Return the types that an annotation such as `tuple[Section, ...] | None` is made of."""
    yield annotation
    for argument in typing.get_args(annotation):
        yield from inner_kinds(argument)


def sections(kind: Any) -> dict[str, set[str]]:
    """Return the keys of a section and of all sections inside it, by the section's name."""
    hints = typing.get_type_hints(kind, include_extras=True)
    own = set(kind.model_fields) if issubclass(kind, BaseModel) else {field.name for field in dataclasses.fields(kind)}
    found = {kind.__name__: own}
    for name in own:
        for inner in filter(is_section, inner_kinds(hints[name])):
            found |= sections(inner)
    return found


def read_in(code: str) -> set[str]:
    """Return the names of all attributes that are read, but for a section's own checks of its values.

    `getattr(config, name)` reads the keys of the registries in its file.
    """
    names: set[str] = set()
    registered: set[str] = set()
    by_name = False

    def visit(node: ast.AST) -> None:
        nonlocal by_name
        if isinstance(node, ast.FunctionDef) and node.name == "__post_init__":
            return
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names.add(node.attr)
        if isinstance(node, ast.Dict):
            registered.update(key.value for key in node.keys if isinstance(key, ast.Constant))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            by_name |= isinstance(node.args[1], ast.Name)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(code))
    return names | registered if by_name else names


@cache
def read_anywhere() -> set[str]:
    files = (file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py"))
    return set().union(*(read_in(file.read_text(encoding="utf-8")) for file in files))


SCHEMA = sections(ExperimentConfig)
for spec in VARIANTS.values():
    SCHEMA |= sections(spec)


def test_a_key_that_is_only_checked_or_set_is_not_read() -> None:
    code = "class A:\n def __post_init__(self): self.checked\n\ndef f(a):\n a.written = a.read\n"
    assert read_in(code) == {"read"}
    registry = "LOSSES = {'mse': 1}\n"
    assert read_in(registry) == set()
    assert read_in(registry + "[getattr(config, name) for name in LOSSES]") == {"mse"}


def test_the_schema_is_walked_into_every_section() -> None:
    assert {"ExperimentConfig", "EarlyStoppingConfig", "OptimConfig", "GateConfig", "RerankConfig"} <= set(SCHEMA)
    assert len(SCHEMA) >= 18


@pytest.mark.parametrize("section", sorted(SCHEMA))
def test_every_key_is_read(section: str) -> None:
    assert SCHEMA[section] - read_anywhere() == set()
