"""Turns pydantic's findings into one line a person can act on: dotted path, what was expected, what was got."""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError


def validate(kind: Any, raw: Any, path: str) -> Any:
    """Validate `raw` as `kind` (a pydantic model or a dataclass); ValueError with the first error's dotted path."""
    if dataclasses.is_dataclass(kind):
        _reject_unknown(raw, [field.name for field in dataclasses.fields(kind)], path)
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        raise ValueError(_first_error(error, kind, path)) from error


def _reject_unknown(raw: dict[str, Any], legal: list[str], path: str) -> None:
    for key in raw:
        if key not in legal:
            raise ValueError(f"{path}.{key}: unknown key; {suggest(str(key), legal)}")


def _first_error(error: ValidationError, kind: Any, path: str) -> str:
    first = error.errors(include_url=False)[0]
    where = _dotted(path, first["loc"])
    message, got = first["msg"], first.get("input")
    if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        legal = _legal_keys(kind, first["loc"][:-1])
        return f"{where}: unknown key; {suggest(str(first['loc'][-1]), legal)}"
    if first["type"] == "missing":
        return f"{where}: expected a value, got none; add the key"
    if first["type"] == "value_error":
        cause = str(first.get("ctx", {}).get("error", message))
        # A dataclass's own message begins with its field's name, which completes the dotted path.
        owned = re.match(r"^[a-z_]\w*(\[\d+\])?: ", cause)
        return f"{where}.{cause}" if owned and where else f"{where}: {cause}" if where else cause
    # "..., unable to parse string as an integer": the first half says what was expected.
    expected = message.split(",")[0] if first["type"].endswith("_parsing") else message
    expected = expected.removeprefix("Input should be ").removeprefix("a valid ")
    return f"{where}: expected {expected[0].lower() + expected[1:]}, got {_short(got)}; mend the value"


def _dotted(path: str, location: tuple[int | str, ...]) -> str:
    dotted = path
    for part in location:
        if isinstance(part, int):
            dotted += f"[{part}]"
        # Unions and constrained types name their branch in the location; a person's YAML has no such key.
        elif re.fullmatch(r"[\w-]+", part) and part not in {"int", "float", "str", "none", "constrained-int"}:
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
    near = difflib.get_close_matches(name, list(legal), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"legal: {', '.join(sorted(legal))}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
