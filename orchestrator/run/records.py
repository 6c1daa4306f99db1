"""What the driver keeps of a trial's reports, in `variants/<variant>/`. The driver is the only one that writes there.

A crash may fall between any two of these writes. An epoch whose checkpoint is missing is trained again; its record is
the same and takes the place of the first one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.io import plain, read_json, replacing, seal_fault, write_bytes, write_json, write_text
from orchestrator.run.ledger import TrialEnd, VariantFolder


def keep_epoch(folder: VariantFolder, record: Mapping[str, Any], files: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write an epoch's checkpoints and its line of metrics.jsonl; lines of the same and later epochs give way."""
    record = {**record, **_own(folder)}
    if "best.pt" in files:
        write_bytes(folder.best, files["best.pt"])
    kept = [earlier for earlier in folder.records() if earlier["epoch"] < record["epoch"]]
    lines = [json.dumps(plain(line), allow_nan=False) + "\n" for line in (*kept, record)]
    write_text(folder.metrics, "".join(lines))
    # Last, since a relaunch goes on from here.
    if "last.pt" in files:
        keep_last(folder, files["last.pt"])


def keep_last(folder: VariantFolder, content: NDArray[np.uint8]) -> None:
    """Write the checkpoint to go on from, after an epoch or inside one."""
    if folder.last.is_file():
        folder.last.replace(folder.before_last)  # where a damaged last.pt goes back to
    write_bytes(folder.last, content)


def keep_smoke(folder: VariantFolder, record: Mapping[str, Any], triage: list[dict[str, Any]]) -> None:
    """Write the record of a smoke evaluation; `triage` says why it was so bad that the trial ended."""
    content = {**_own(folder), "epoch": record["epoch"], "metrics": record["smoke"], "ci": record.get("smoke_ci", {})}
    write_json(folder.smoke(record["epoch"]), {**content, **({"triage": triage} if triage else {})})


def keep_predictions(folder: VariantFolder, about: Mapping[str, Any], predictions: NDArray[np.float32]) -> None:
    """Write a survivor's predictions (Q, D) of the final queries and what it says of them; read at the end only."""
    write_json(folder.predicted, {**about, **_own(folder)})
    with replacing(folder.predictions) as file:
        np.save(file, predictions, allow_pickle=False)


def read_predictions(folder: VariantFolder) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return what `keep_predictions` wrote; UserError when the file cannot be read."""
    try:
        predictions: NDArray[np.float32] = np.load(folder.predictions, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{folder.predictions}: expected the predictions of the final queries, got none to read ({error}); "
            "remove what is left of them and type the same command again"
        ) from error
    about = dict(read_json(folder.predicted))
    folder.check_own(folder.predicted, about)
    return predictions, about


def missing_evidence(folder: VariantFolder, end: TrialEnd) -> str | None:
    """Say what a trial that survived should have left and has not, or has damaged; None when all is there.

    Its predictions are no evidence: they are made again from its weights.
    """
    epochs = [record["epoch"] for record in folder.records() if record["epoch"] > 0]
    if epochs != [*range(1, end.epoch + 1)]:
        shown = ", ".join(map(str, epochs)) or "none"
        return f"{folder.metrics}: expected the records of epochs 1 to {end.epoch}, got {shown}"
    if not folder.best.is_file():
        return f"{folder.best}: expected the trial's best weights, got no file"
    if fault := seal_fault(folder.best.read_bytes()):
        return f"{folder.best}: expected the trial's best weights, got a damaged file ({fault})"
    return None


def _own(folder: VariantFolder) -> dict[str, str]:
    return {"run": folder.run} if folder.run is not None else {}
