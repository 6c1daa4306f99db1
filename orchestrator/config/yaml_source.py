"""Reads an experiment's YAML into one plain mapping: `extends`, `--set` overrides, no duplicate keys, real floats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from data.errors import UserError
from data.io import check_file

LARGEST = 1 << 20
MOST_NODES = 20_000
_FLOAT = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that rejects duplicate keys and reads `1e-3` as a number, as YAML 1.2 does (1.1 makes it a string)."""


# A copy of the table per class: the resolvers of SafeLoader itself stay as they are.
_StrictLoader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
for _first in "-+.0123456789":
    _StrictLoader.yaml_implicit_resolvers.setdefault(_first, []).insert(0, ("tag:yaml.org,2002:float", _FLOAT))


def _parse(text: str) -> Any:
    """Return what YAML text means; UserError for a duplicate key, with its dotted path and both lines."""
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _num_nodes(node, {}) > MOST_NODES:
            raise UserError(f"expected at most {MOST_NODES:,} values, aliases resolved, got more; write them out")
        _reject_duplicates(node, "")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _num_nodes(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many values a node stands for once aliases are resolved; UserError for one that holds itself."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise UserError(
                f"line {node.start_mark.line + 1}: expected no value that holds itself, got one; cut the alias"
            )
        return found
    known[id(node)] = None
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    pairs = [one for entry in inner for one in (entry if isinstance(entry, tuple) else (entry,))]
    known[id(node)] = total = 1 + sum(_num_nodes(one, known) for one in pairs)
    return total


def _reject_duplicates(node: yaml.Node, path: str) -> None:
    # A sequence's entries and a mapping's values; what an anchor repeats was checked where it stands.
    entries: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        entries = [(f"{path}[{position}]", entry) for position, entry in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(
                    f"{path or 'top level'}: expected plain keys, got a list or mapping as a key on line "
                    f"{line}; fix the braces"
                )
            key = key_node.value
            where = f"{path}.{key}" if path else key
            if key in lines:
                raise UserError(f"{where}: expected once, got it on lines {lines[key]} and {line}; delete one of them")
            lines[key] = line
            entries.append((where, value))
    for where, entry in entries:
        _reject_duplicates(entry, where)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in one YAML file; UserError with one line for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: expected an experiment file, got no such file; see experiments/ for examples")
    try:
        check_file(path, "an experiment file", LARGEST)
        # _StrictLoader derives from SafeLoader, so no object of any other kind can be made.
        content = _parse(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        where = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}:{where} expected YAML, got {error.problem}; fix the syntax") from error
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected YAML in UTF-8, got {error}; fix the syntax") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected a mapping of keys, got {type(content).__name__}; see experiments/phase5.yaml"
        )
    return content


def merge(base: dict[str, Any], over: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return `base` with `over` laid on top: mappings merge key by key, everything else is replaced.

    An inherited variant whose value in `over` is null is dropped. Elsewhere null is a value: `early_stopping: null`
    means none, whatever the file that is extended says.
    """
    merged = dict(base)
    for key, value in over.items():
        if value is None and path == "variants":
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value, f"{path}.{key}" if path else str(key))
        else:
            merged[key] = value
    return merged


def apply_override(raw: dict[str, Any], assignment: str) -> dict[str, Any]:
    """Return `raw` with one `a.b=value` laid on top; the value is read as YAML (`variants.amn=null` drops it)."""
    dotted, separator, text = assignment.partition("=")
    keys = dotted.split(".")
    if not separator or not all(keys):
        raise UserError(f"--set {assignment}: expected key.key=value, got no such form; e.g. --set training.epochs=2")
    try:
        value: Any = _parse(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {assignment}: expected a YAML value after '=', got {text!r}; quote it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--set {assignment}: {error}") from error
    for key in reversed(keys):
        value = {key: value}
    return merge(raw, value)


def load_raw(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the experiment's mapping after `extends` (relative to the file) and the `--set` overrides."""
    # From the root up: what a file drops must have been inherited by then.
    raw: dict[str, Any] = {}
    for layer in reversed(_layers(path)):
        raw = merge(raw, layer)
    for assignment in overrides:
        raw = apply_override(raw, assignment)
    return raw


def _layers(path: Path) -> list[dict[str, Any]]:
    """Return the file's own mapping, that of the file it extends, and so on; without `extends`."""
    chain, layers = [path], [read_yaml(path)]
    while (parent_name := layers[-1].pop("extends", None)) is not None:
        if not isinstance(parent_name, str):
            raise UserError(f"{chain[-1]}: extends: expected one file name, got {parent_name!r}; name one file")
        parent = chain[-1].parent / parent_name
        if not parent.is_file():
            raise UserError(
                f"{chain[-1]}: extends: expected an experiment file, got {parent} (no such file); correct the name"
            )
        if parent.resolve() in {link.resolve() for link in chain}:
            raise UserError(f"{chain[-1]}: extends: expected no circle, got {parent_name} again; cut one link")
        chain.append(parent)
        layers.append(read_yaml(parent))
    return layers
