"""What the parts of a run say about where their vectors come from, and whether they say the same."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.io import read_json
from data.payload.store import UNKNOWN_EMBEDDER, Payload
from data.preflight.check import Check, judge
from data.windows.table import WINDOWS_FOLDER, load_window_provenance

_DIMENSION = re.compile(r"-[1-9]\d{1,3}$")


def same_embedder(first: str, second: str) -> bool:
    """Compare names without organisation, case and signs; a side that does not say is not judged.

    A dimension at the end that only one of the two has is no difference: GTR-T5-base-768 is
    sentence-transformers/gtr-t5-base.
    """
    one, two = (re.sub(r"[^a-z0-9]+", "-", name.rsplit("/", 1)[-1].lower()) for name in (first, second))
    alike = one == two or _DIMENSION.sub("", one) == two or one == _DIMENSION.sub("", two)
    return alike or UNKNOWN_EMBEDDER in (one, two)


def provenance_of_windows(payload: Payload) -> dict[str, dict[str, str]]:
    """Return what windows made from sequence files say, by part: `windows` and the files.

    Windows cut from the payload itself say nothing new. A file whose vectors were replaced (`realigned`) is left out.
    """
    folder = payload.path / WINDOWS_FOLDER
    if not (folder / "windows.json").is_file() or (found := load_window_provenance(folder)).origin != "files":
        return {}
    files = {
        facts["file"]: dict(facts.get("provenance", {})) for facts in found.alignment.values() if not facts["realigned"]
    }
    return {"windows": {"sha256": found.payload_sha256}, **files}


def provenance_of_index(file: str | Path) -> dict[str, dict[str, str]]:
    """Return what the JSON file of an index, of the same name with .json, says about the payload it was built from.

    Read are `embedder` and `payload_sha256`, which an index kept by an earlier run has. Without them nothing is
    compared here; the vectors of the index are compared with the payload anyway.
    """
    beside = Path(file).with_suffix(".json")
    try:
        described = read_json(beside)
    except (OSError, UserError):
        return {}
    names = {"embedder": "embedder", "payload_sha256": "sha256"}
    said = {names[name]: str(described[name]) for name in names if isinstance(described, dict) and name in described}
    return {"index": said}


def check_provenance(payload: Payload, others: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Compare the payload's provenance with that of other parts, such as an index or windows, field by field.

    Args:
        payload: The corpus.
        others: By the name of the part, what it says of embedder, norm, metric, sha256 and payload_build_id; what it
            or the payload lacks is not compared.
    """
    mine = _said_by(payload)
    stated = [(part, name, str(said[name])) for part, said in others.items() for name in mine if name in said]
    differing = [
        f"{part}.{name} is {_short(value)}, payload.{name} is {_short(mine[name])}"
        for part, name, value in stated
        if not _SAME.get(name, str.__eq__)(value, mine[name])
    ]
    if (mine["norm"], mine["metric"]) != ("l2_once", "ip"):
        differing.append(f"the payload has norm {mine['norm']} and metric {mine['metric']}, not l2_once and ip")
    return [
        judge(
            "provenance",
            len(differing),
            "==",
            0,
            "build payload, windows and index from one embedding of one corpus",
            detail=", ".join(differing) or _agreed(others, stated),
        )
    ]


def _said_by(payload: Payload) -> dict[str, str]:
    own = payload.provenance
    said = {"embedder": own.embedder, "norm": own.norm, "metric": own.metric, "sha256": own.sha256}
    if file_sha256 := own.source.get("file_sha256"):
        said["payload_build_id"] = str(file_sha256)
    return said


def _agreed(others: Mapping[str, Mapping[str, Any]], stated: list[tuple[str, str, str]]) -> str:
    """Say which fields of which part were compared, and which part says nothing."""
    compared = {part: [name for where, name, _ in stated if where == part] for part in others}
    return "compared: " * bool(compared) + ", ".join(
        f"{part} ({', '.join(names) or 'says nothing'})" for part, names in compared.items()
    )


def _same_build(build: str, file_sha256: str) -> bool:
    """Compare `<name>@sha256:<first digits>` with the digest of the payload's file; other forms are not judged."""
    _, found, digits = build.partition("@sha256:")
    return not found or file_sha256.startswith(digits)


_SAME = {"embedder": same_embedder, "payload_build_id": _same_build}


def _short(value: str) -> str:
    """Return a hash's first digits, anything else whole."""
    is_hash = len(value) == 64 and all(digit in "0123456789abcdef" for digit in value)
    return value[:12] if is_hash else value
