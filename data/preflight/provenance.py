"""What the parts of a run say about where their vectors come from, and whether they say the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.io import read_json
from data.payload.store import UNKNOWN_EMBEDDER, Payload
from data.preflight.check import Check, judge
from data.windows.table import WINDOWS_FOLDER, load_window_provenance

STATED = ("embedder", "norm", "metric")
"""What a file of sequences may say of its vectors in the words of a payload; its sha256 is that of another format."""


def same_embedder(first: str, second: str) -> bool:
    """Compare names without the organisation before the slash; a side that does not say is not judged."""
    short = {name.rsplit("/", 1)[-1].lower() for name in (first, second)}
    return len(short) == 1 or UNKNOWN_EMBEDDER in short


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
        others: By the name of the part, what it says of embedder, norm, metric, sha256; what it lacks is not compared.
    """
    own = payload.provenance
    mine = {"embedder": own.embedder, "norm": own.norm, "metric": own.metric, "sha256": own.sha256}
    stated = [(part, name, str(found[name])) for part, found in others.items() for name in mine if name in found]
    differing = [
        f"{part}.{name} is {_short(value)}, payload.{name} is {_short(mine[name])}"
        for part, name, value in stated
        if not (same_embedder(value, mine[name]) if name == "embedder" else value == mine[name])
    ]
    if own.norm != "l2_once" or own.metric != "ip":
        differing.append(f"the payload has norm {own.norm} and metric {own.metric}, not l2_once and ip")
    parts = ", ".join(dict.fromkeys(part for part, _, _ in stated))
    return [
        judge(
            "provenance",
            len(differing),
            "==",
            0,
            "build payload, windows and index from one embedding of one corpus",
            detail=", ".join(differing) or (f"{parts}: of the same vectors as the payload" if parts else ""),
        )
    ]


def _short(value: str) -> str:
    """Return a hash's first digits, anything else whole."""
    is_hash = len(value) == 64 and all(digit in "0123456789abcdef" for digit in value)
    return value[:12] if is_hash else value
