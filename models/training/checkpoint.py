"""Checkpoints: a model with all that rebuilds it, and the state that a training continues from.

Both hold only tensors and plain values and are read with `weights_only=True`: opening one runs no code. Both go to a
path or to an open binary file, such as `io.BytesIO`. A path is replaced in one step: no reader sees half a file. Each
ends with its own sha256, which is compared when it is read.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from data.errors import MissingFileError, UserError
from data.io import NO_SEAL, check_file, replacing, seal, seal_fault
from models.blocks.build import Model, OwnModel, build_model
from models.spec.imported import ImportedSpec
from models.spec.registry import spec_from_dict, spec_to_dict
from models.spec.specs import VariantSpec

File = str | Path | IO[bytes]

FORMAT = 1
MODEL_KEYS = {"format", "spec", "dim", "epoch", "metrics", "provenance", "state"}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and what its file said about it."""

    model: Model
    spec: VariantSpec | ImportedSpec
    dim: int
    epoch: int
    metrics: dict[str, Any]
    provenance: dict[str, Any]


def save_model(file: File, model: Model, *, epoch: int, metrics: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Write the weights with the configuration that rebuilds the model."""
    content = {
        "format": FORMAT,
        "spec": spec_to_dict(model.spec),
        "dim": model.dim,
        "epoch": epoch,
        "metrics": dict(metrics),
        "provenance": dict(provenance),
        "state": model.state_dict(),
    }
    save_training_state(file, content)


def load_model(
    file: File, device: str = "cpu", *, dim: int | None = None, trusted: Collection[str] = ()
) -> LoadedModel:
    """Rebuild the model from its file alone, in evaluation mode.

    `trusted`: import paths of models of somebody else that the file may name; it imports no other.

    Raises MissingFileError or a one-line UserError when the file is truncated, no checkpoint, of another dimension
    than `dim` (None: any), or lacks or adds a tensor.
    """
    content, where = load_training_state(file), _name(file)
    missing = MODEL_KEYS - content.keys()
    if missing or content["format"] != FORMAT:
        what = f"without {', '.join(sorted(missing))}" if missing else f"of format {content['format']}"
        raise UserError(
            f"{where}: expected a model checkpoint of format {FORMAT}, got one {what}; save it with save_model"
        )
    if dim is not None and content["dim"] != dim:
        raise UserError(
            f"{where}: expected a model for vectors of dimension {dim}, got dimension {content['dim']}; "
            "use the payload it was trained on or train it on this one"
        )
    try:
        spec = spec_from_dict(content["spec"])
    except UserError as error:
        what = str(error).split(";", maxsplit=1)[0]
        raise UserError(
            f"{where}: expected a model that this version has, got one of another ({what}); "
            "use the version that saved it, or train it anew"
        ) from error
    if isinstance(spec, ImportedSpec) and spec.path not in trusted:
        raise UserError(
            f"{where}: expected a model of this project, got one that imports {spec.path}; trust it by its name "
            "(evaluation.checkpoint --trust), if you do"
        )
    model = build_model(spec, content["dim"])
    if isinstance(model, OwnModel) and model.spec.residual == "fitted":
        make_room_for_line(model, content["state"])
    _check_tensors(where, content["state"], model.state_dict())
    model.load_state_dict(content["state"])
    try:
        model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0][:80]
        raise UserError(f"device: expected one that torch finds here, got {device} ({reason}); give cpu") from error
    return LoadedModel(model, model.spec, model.dim, content["epoch"], content["metrics"], content["provenance"])


def make_room_for_line(model: OwnModel, state: dict[str, Any]) -> None:
    """Give a model with `residual: fitted` a line as long as the state's: its length is that of the contexts."""
    length = len(state.get("head.line.bias", ()))
    model.head.line.set(torch.zeros(length, model.dim, model.dim), torch.zeros(length, model.dim))


def save_training_state(file: File, state: dict[str, Any]) -> None:
    """Write what continues a training: tensors in plain containers (model, optimizer, random state, cursor)."""
    whole = io.BytesIO()
    torch.save(state, whole)
    seal(whole)  # torch.load, which reads a zip from its end, passes over that
    if isinstance(file, str | Path):
        with replacing(file) as opened:
            opened.write(whole.getbuffer())
    else:
        file.write(whole.getbuffer())


def load_training_state(file: File) -> dict[str, Any]:
    """Read what `save_training_state` wrote, onto the CPU; same errors as `load_model`."""
    where = _name(file)
    if isinstance(file, str | Path) and Path(file).exists() and not Path(file).is_dir():
        check_file(file, "a checkpoint")
    try:
        whole = Path(file).read_bytes() if isinstance(file, str | Path) else file.read()
        # One that was cut short has lost its hash with its end, where torch itself finds that the end is missing.
        if (fault := seal_fault(whole)) is not None and fault != NO_SEAL:
            raise ValueError(fault)
        content = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        raise MissingFileError(
            f"{where}: expected a checkpoint, got no such file; check the path or train the variant first"
        ) from None
    except (
        RuntimeError,
        EOFError,
        OSError,
        pickle.UnpicklingError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{where}: expected a complete checkpoint of tensors and plain values, got an unreadable one "
            f"({reason[:80]}); restore it from a copy or train the variant again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a checkpoint, got a {type(content).__name__}; save it with save_model")
    return content


def _name(file: File) -> str:
    return str(file) if isinstance(file, str | Path) else "checkpoint"


def _check_tensors(where: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise UserError naming the first tensor that is missing, not expected, or of another shape."""
    problems = [f"{name} missing" for name in expected if name not in found]
    problems += [f"{name} not expected" for name in found if name not in expected]
    problems += [
        f"{name} of shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(
            f"{where}: expected {len(expected)} tensors as its own configuration says, got {problems[0]}{more}; "
            "the file was altered or written by another version: train the variant again"
        )
