"""The run folder as evaluation reads and writes it: results.json, config.yaml and each row's per-query arrays.

runs/<name>/results.json                 protocol, rows, best, leader, verdict, advice, pairs; undefined figures: null
runs/<name>/queries.npz                  the final queries, once for all rows (evaluation.queries)
runs/<name>/variants/<row>/ranks.npy     (Q,) int32 final ranks, 0 = not in the first 50; (S, Q) under S seeds
runs/<name>/variants/<row>/<array>.npy   the other arrays of an evaluation (ARRAYS)

From the arrays every figure can be recomputed, and two runs be compared query by query.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.errors import MissingFileError, UserError
from data.io import check_file, read_json, replacing
from evaluation.ending import SURVIVED
from evaluation.measures.metrics import K_MAX, METRICS

if TYPE_CHECKING:
    from data.config import DataConfig

Row = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]

RESULTS_FILE = "results.json"
CONFIG_FILE = "config.yaml"
AGAIN = "restore the file, or run it again"
ARRAYS = (
    "ranks",
    "ranks_pool",
    "ranks_exact",
    "ranks_exclude_context",
    "ranks_pool_exclude_context",
    "cosine",
    "neighbours",
    "latency_ms",
)
OUTCOME_ARRAYS = ("ranks", "ranks_pool", "cosine")  # without these nothing can be recomputed


def survived(row: Row) -> bool:
    """Whether a trial ended by finishing or by early stopping; untrained baselines finish, too."""
    return row.get("status") in SURVIVED


def save_arrays(folder: str | Path, answer: Mapping[str, Any]) -> None:
    """Keep the per-query arrays of an evaluation's answer in a row's folder, one npy file each."""
    for name in ARRAYS:
        if name in answer:
            with replacing(Path(folder) / f"{name}.npy") as file:
                np.save(file, answer[name], allow_pickle=False)


def load_arrays(folder: str | Path, needed: Sequence[str] = OUTCOME_ARRAYS) -> Arrays:
    """Load what `save_arrays` kept; arrays that are not needed may be absent.

    Raises:
        MissingFileError: naming the needed file that is missing.
    """
    folder = Path(folder)
    for name in needed:
        if not (folder / f"{name}.npy").is_file():
            raise MissingFileError(
                f"{folder / name}.npy: expected a per-query array of a final evaluation, got no file; "
                "only rows that were evaluated at the end have them"
            )
    present = [name for name in ARRAYS if (folder / f"{name}.npy").is_file()]
    return {name: _array(folder / f"{name}.npy") for name in present}


def _array(file: Path) -> npt.NDArray[Any]:
    check_file(file, "a per-query array")
    try:
        found: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise UserError(f"{file}: expected a per-query array, got a damaged file ({error}); {AGAIN}") from None
    if found.ndim not in (1, 2) or found.dtype.kind not in "fiu":
        raise UserError(f"{file}: expected a per-query array, got {found.dtype} of shape {found.shape}; {AGAIN}")
    if file.stem.startswith("ranks") and (found.dtype.kind == "f" or not ((found >= 0) & (found <= K_MAX)).all()):
        raise UserError(f"{file}: expected whole ranks from 0 to {K_MAX}, got others; {AGAIN}")
    return found


def load_all_arrays(run: str | Path, rows: Sequence[Row]) -> dict[str, Arrays]:
    """The arrays of every row that was evaluated at the end, by the row's name."""
    folders = {row["variant"]: Path(run) / "variants" / row["variant"] for row in rows}
    complete = {
        name: folder
        for name, folder in folders.items()
        if all((folder / f"{array}.npy").is_file() for array in OUTCOME_ARRAYS)
    }
    return {name: load_arrays(folder) for name, folder in complete.items()}


def load_results(run: str | Path) -> dict[str, Any]:
    """Read a run's results.json.

    Raises:
        MissingFileError, UserError: in one line.
    """
    path = Path(run) / RESULTS_FILE
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected the results of a run, got no file; let the run finish or name another folder"
        )
    content = read_json(path)
    missing = [key for key in ("protocol", "rows") if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"{path}: expected the keys protocol and rows, got no {' and '.join(missing)}; run it again")
    if not isinstance(content["protocol"], dict) or not isinstance(content["rows"], list):
        raise UserError(f"{path}: expected protocol and a list of rows, got others; {AGAIN}")
    for number, row in enumerate(content["rows"]):
        _check_row(path, number, row)
    return dict(content)


def _check_row(path: Path, number: int, row: Any) -> None:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("variant", "status")):
        raise UserError(f"{path}: rows[{number}]: expected variant and status, got another row; {AGAIN}")
    for key, value in row.items():
        if key in METRICS and not (value is None or isinstance(value, int | float)):
            raise UserError(f"{path}: rows[{number}].{key}: expected a number, got {value!r:.40}; {AGAIN}")


def load_config(run: str | Path) -> dict[str, Any]:
    """Read a run's config.yaml; empty without one."""
    import yaml

    path = Path(run) / CONFIG_FILE
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise UserError(f"{path}: expected a run's configuration, got {found}; restore the file") from None


def trial_of(results: Mapping[str, Any], name: str) -> str:
    """Return the trial that stands for a row: its folder has weights and records. With one seed it is the row's own."""
    return next((str(row.get("trial") or name) for row in results["rows"] if row["variant"] == name), name)


def payload_folder(run: str | Path, override: str | None = None) -> Path:
    """The payload that a finished run was made with, checked against the hash in its protocol.

    Raises:
        UserError, MissingFileError: when nothing leads to a payload with that hash.
    """
    protocol = load_results(run)["protocol"]
    folder = run_payload(run, override or protocol.get("payload_path"))
    _check_same_payload(folder, protocol.get("data_sha256"))
    return folder


def run_payload(run: str | Path, named: str | None = None) -> Path:
    """The payload that is named, else the one that the run's own config.yaml leads to."""
    if not named and (section := load_config(run).get("data")):
        named = str(_configured_payload(section))
    if not named:
        raise UserError(f"{run}: expected a run folder with config.yaml, got none; name the payload with --payload")
    if not Path(named).is_dir():
        raise MissingFileError(f"{named}: expected the payload's folder, got none; name it with --payload")
    return Path(named)


def _configured_payload(section: Mapping[str, Any]) -> Path:
    """The folder that the run's own data section leads to (the docstring corpus is cached by its recipe)."""
    from data.prepare import prepare_payload

    data = data_config(section)
    return prepare_payload(data, Path(data.cache_dir)).path


def data_config(section: Mapping[str, Any]) -> "DataConfig":
    """The data section of a run's config.yaml."""
    from data.config import DataConfig

    known = {field: section[field] for field in DataConfig.__dataclass_fields__ if field in section}
    packages = {"packages": tuple(known["packages"])} if "packages" in known else {}
    return DataConfig(**(known | packages))


def _check_same_payload(folder: Path, sha256: str | None) -> None:
    from data.payload.store import open_payload

    found = open_payload(folder).provenance.sha256
    if sha256 and not found.startswith(sha256):
        raise UserError(
            f"{folder}: expected the run's payload (sha256 {sha256[:16]}), got {found[:16]}; name it with --payload"
        )
