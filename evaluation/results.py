"""The run folder as evaluation reads and writes it: results.json and each row's per-query arrays.

runs/<name>/results.json                 protocol, rows, best, verdict, pairs; undefined figures are null
runs/<name>/variants/<row>/ranks.npy     (Q,) int32 final ranks, 0 = not in the first 50
runs/<name>/variants/<row>/per_query.npz the other arrays of an evaluation, windows included, so that every
                                         figure can be recomputed and two runs can be compared query by query
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Row = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]

SURVIVED = ("FINISHED", "EARLY_STOPPED")
RESULTS_FILE = "results.json"
RANKS_FILE = "ranks.npy"
ARRAYS_FILE = "per_query.npz"


def survived(row: Row) -> bool:
    """Whether a trial ended by finishing or by early stopping; untrained baselines finish, too."""
    return row.get("status") in SURVIVED


def save_arrays(folder: str | Path, answer: Mapping[str, Any]) -> None:
    """Keep the per-query arrays of an evaluation's answer in a row's folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: value for name, value in answer.items() if isinstance(value, np.ndarray)}
    _replace(folder / RANKS_FILE, lambda file: np.save(file, arrays["ranks"].astype(np.int32)))
    others = {name: value for name, value in arrays.items() if name != "ranks"}
    _replace(folder / ARRAYS_FILE, lambda file: np.savez_compressed(file, allow_pickle=False, **others))


def load_arrays(folder: str | Path) -> Arrays:
    """Load what `save_arrays` kept.

    Raises:
        FileNotFoundError: naming the file that is missing.
    """
    folder = Path(folder)
    for name in (RANKS_FILE, ARRAYS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name}: expected the per-query arrays of a final evaluation, got no file; "
                "only rows that were evaluated at the end have them"
            )
    with np.load(folder / ARRAYS_FILE) as others:
        return {"ranks": np.load(folder / RANKS_FILE), **{name: others[name] for name in others.files}}


def load_all_arrays(run: str | Path, rows: list[Row]) -> dict[str, Arrays]:
    """The arrays of every row that has them, by the row's name."""
    folders = {row["variant"]: Path(run) / "variants" / row["variant"] for row in rows}
    return {name: load_arrays(folder) for name, folder in folders.items() if (folder / ARRAYS_FILE).is_file()}


def load_results(run: str | Path) -> dict[str, Any]:
    """Read a run's results.json.

    Raises:
        FileNotFoundError, ValueError: in one line.
    """
    path = Path(run) / RESULTS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the results of a run, got no file; let the run finish or name another folder"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in ("protocol", "rows") if key not in content]
    if missing:
        raise ValueError(f"{path}: expected the keys protocol and rows, got no {' and '.join(missing)}; run it again")
    return dict(content)


def payload_folder(run: str | Path, override: str | None = None) -> Path:
    """The payload that a run was made with: `override`, or `payload_path` in the protocol of its results.json.

    Raises:
        ValueError, FileNotFoundError: when neither names an existing folder.
    """
    named = override or load_results(run)["protocol"].get("payload_path")
    if not named:
        raise ValueError(
            f"{Path(run) / RESULTS_FILE}: expected protocol.payload_path, got none; name the folder with --payload"
        )
    if not Path(named).is_dir():
        raise FileNotFoundError(f"{named}: expected the payload's folder, got none; name it with --payload")
    return Path(named)


def save_results(run: str | Path, results: Mapping[str, Any]) -> Path:
    """Write results.json at once (a reader never sees half of it); NaN and infinity become null, as JSON has none."""
    path = Path(run) / RESULTS_FILE
    text = json.dumps(plain(results), indent=2, allow_nan=False) + "\n"
    _replace(path, lambda file: file.write(text.encode()))
    return path


def plain(value: Any) -> Any:
    """Values that every JSON reader takes: numpy scalars become Python's, undefined numbers null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _replace(path: Path, write: Any) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        write(file)
    part.replace(path)
