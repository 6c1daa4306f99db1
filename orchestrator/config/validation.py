"""Turns pydantic's findings into one line a person can act on: dotted path, what was expected, what was got."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from data.errors import UserError, did_you_mean


def validate(kind: Any, raw: Any, path: str) -> Any:
    """Validate `raw` as `kind` (a pydantic model or a dataclass); UserError with the first error's dotted path."""
    if dataclasses.is_dataclass(kind):
        _reject_unknown(raw, [field.name for field in dataclasses.fields(kind)], path)
    try:
        checked = TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        raise UserError(_first_error(error, kind, path)) from error
    _reject_truth_values(raw, checked, path)
    return checked


def _reject_unknown(raw: dict[str, Any], legal: list[str], path: str) -> None:
    for key in raw:
        if key not in legal:
            raise UserError(f"{path}.{key}: unknown key; {suggest(str(key), legal)}")


def _reject_truth_values(raw: Any, checked: Any, path: str) -> None:
    """Refuse `true` where a number is meant: pydantic reads it as 1."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            inner = checked.get(key) if isinstance(checked, dict) else getattr(checked, str(key), None)
            _reject_truth_values(value, inner, f"{path}.{key}" if path else str(key))
    elif isinstance(raw, (list, tuple)) and isinstance(checked, (list, tuple)):
        for position, (value, inner) in enumerate(zip(raw, checked, strict=True)):
            _reject_truth_values(value, inner, f"{path}[{position}]")
    elif isinstance(raw, bool) and isinstance(checked, (int, float)) and not isinstance(checked, bool):
        raise UserError(f"{path}: expected a number, got {str(raw).lower()}; write the number")


def _first_error(error: ValidationError, kind: Any, path: str) -> str:
    errors = error.errors(include_url=False)
    first = errors[0]
    where = _dotted(path, first["loc"])
    if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        legal = _legal_keys(kind, first["loc"][:-1])
        key = str(first["loc"][-1])
        section = _dotted(path, first["loc"][:-1])
        return f"{section}.{key}: ".removeprefix(".") + f"unknown key; {suggest(key, legal)}"
    if first["type"] == "missing":
        return f"{where}: expected a value, got none; add the key"
    if first["type"] == "value_error":
        cause = str(first.get("ctx", {}).get("error", first["msg"]))
        # A dataclass's own message begins with its field's name, which completes the dotted path.
        owned = re.match(r"^[a-z_]\w*(\[\d+\])?: ", cause)
        return f"{where}.{cause}" if owned and where else f"{where}: {cause}" if where else cause
    # A value that fits no branch of a union has one error a branch.
    expected = dict.fromkeys(_expected(e) for e in errors if _dotted(path, e["loc"]) == where)
    fix = _FIXES.get(first["type"], "fix the value") if len(expected) == 1 else "fix the value"
    return f"{where}: expected {' or '.join(expected)}, got {_short(first.get('input'))}; {fix}"


_EXPECTED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "dataclass_type": "a mapping of keys",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "at least {min_length}",
}
_FIXES = {
    "string_type": "put it in quotes",
    "tuple_type": "put it in [brackets]",
    "dict_type": "write {key: value}",
    "model_type": "write {key: value}",
    "dataclass_type": "write {key: value}",
}


def _expected(error: Any) -> str:
    known = _EXPECTED.get(error["type"])
    return str(error["msg"]) if known is None else known.format(**error.get("ctx", {}))


_BRANCHES = {"int", "float", "str", "bool", "none", "constrained-int", "constrained-float", "constrained-str"}


def _dotted(path: str, location: tuple[int | str, ...]) -> str:
    if location and location[-1] == "[key]":
        return f"{_dotted(path, location[:-2])}.{location[-2]}"
    dotted = path
    for part in location:
        if isinstance(part, int):
            dotted += f"[{part}]"
        # Unions and constrained types name their branch in the location; a person's YAML has no such key.
        elif re.fullmatch(r"[\w-]+", part) and part not in _BRANCHES:
            dotted += f".{part}" if dotted else part
    return dotted


def _legal_keys(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the section at `location` may hold."""
    for part in location:
        fields = _field_types(kind)
        if isinstance(part, str) and part in fields:
            kind = fields[part]
    return list(_field_types(kind))


def _field_types(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: _section_of(field.annotation) for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return {field.name: field.type for field in dataclasses.fields(kind)}
    return {}


def _section_of(annotation: Any) -> Any:
    """Return the section inside `Section | None` and `tuple[Section, ...]`."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if _is_section(c)), annotation)


def _is_section(candidate: Any) -> bool:
    return isinstance(candidate, type) and (issubclass(candidate, BaseModel) or dataclasses.is_dataclass(candidate))


def suggest(name: str, legal: Any) -> str:
    """Return `did you mean d_model?` or, when nothing is near, the legal names."""
    return did_you_mean(name, legal, f"legal: {', '.join(sorted(legal))}")


_YAML_WORDS = {"None": "null", "True": "true", "False": "false"}


def _short(value: Any) -> str:
    text = _YAML_WORDS.get(repr(value), repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
