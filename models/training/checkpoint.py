"""Checkpoints: a model file that explains itself, and the training state to continue from.

Both hold only tensors and plain values and are read with `weights_only=True`, so that opening one runs no code.
Both are written to a temporary file that replaces the old one at once: a reader never sees half a file.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import MissingFileError, UserError
from models.blocks.build import Model, build_model
from models.spec.registry import spec_from_dict, spec_to_dict
from models.spec.specs import VariantSpec

FORMAT = 1
MODEL_KEYS = {"format", "spec", "dim", "epoch", "metrics", "provenance", "state"}
WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and what its file said about it."""

    model: Model
    spec: VariantSpec
    dim: int
    epoch: int
    metrics: dict[str, Any]
    provenance: dict[str, Any]


def save_model(
    path: str | Path, model: nn.Module, *, epoch: int, metrics: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Write the weights with the configuration that rebuilds them; a wrapped model is saved as its inner one."""
    inner = unwrap(model)
    content = {
        "format": FORMAT,
        "spec": spec_to_dict(inner.spec),
        "dim": inner.dim,
        "epoch": epoch,
        "metrics": dict(metrics),
        "provenance": dict(provenance),
        "state": plain_state(model),
    }
    _write(Path(path), content)


def load_model(path: str | Path, device: str = "cpu", *, dim: int | None = None) -> LoadedModel:
    """Rebuild the model from its file alone, in evaluation mode.

    Raises MissingFileError or a one-line UserError when the file is truncated, no checkpoint, of another dimension
    than `dim` (None: any), or lacks or adds a tensor.
    """
    path = Path(path)
    content = _read(path)
    missing = MODEL_KEYS - content.keys()
    if missing or content["format"] != FORMAT:
        what = f"without {', '.join(sorted(missing))}" if missing else f"of format {content['format']}"
        raise UserError(
            f"{path}: expected a model checkpoint of format {FORMAT}, got one {what}; save it with save_model"
        )
    if dim is not None and content["dim"] != dim:
        raise UserError(
            f"{path}: expected a model for vectors of dimension {dim}, got dimension {content['dim']}; "
            "use the payload it was trained on or train it on this one"
        )
    model = build_model(spec_from_dict(content["spec"]), content["dim"])
    _check_tensors(path, content["state"], model.state_dict())
    model.load_state_dict(content["state"])
    model.to(device).eval()
    return LoadedModel(model, model.spec, model.dim, content["epoch"], content["metrics"], content["provenance"])


def save_training_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write what continues a training: tensors in plain containers (model, optimizer, random state, cursor)."""
    _write(Path(path), state)


def load_training_state(path: str | Path) -> dict[str, Any]:
    """Read what `save_training_state` wrote, onto the CPU; same errors as `load_model`."""
    return _read(Path(path))


def state_sha256(model: nn.Module) -> str:
    """Return a digest of all parameters and buffers: names, shapes, dtypes and bytes. Wrappers do not change it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(plain_state(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def unwrap(model: nn.Module) -> Any:
    """Return the model inside DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if inner is None:
            return model
        model = inner


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the inner model's tensors by name, detached."""
    state: dict[str, Tensor] = unwrap(model).state_dict()
    return {name: tensor.detach() for name, tensor in state.items()}


def _check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
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
            f"{path}: expected {len(expected)} tensors as its own configuration says, got {problems[0]}{more}; "
            "the file was altered or written by another version: train the variant again"
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected a checkpoint, got no such file; check the path or train the variant first"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: expected a complete checkpoint of tensors and plain values, got an unreadable one "
            f"({reason[:80]}); restore it from a copy or train the variant again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a checkpoint, got a {type(content).__name__}; save it with save_model")
    return content
