"""Predict in a process of its own: for command lines that also search, since torch and FAISS never share a process."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import UserError
from evaluation.service.child import run_module


def predict_in_process(
    checkpoint: str | Path,
    payload: str | Path,
    windows: npt.NDArray[np.int32],
    *,
    device: str = "cpu",
    latency_queries: int = 0,
) -> dict[str, Any]:
    """What `evaluation.service.predict.Predictor.predict` returns, computed by `python -m evaluation.service.predict`.

    Raises:
        UserError: with the one line that the process wrote, e.g. about a damaged checkpoint.
    """
    with tempfile.TemporaryDirectory() as folder:
        queries, out = Path(folder) / "windows.npy", Path(folder) / "predictions.npz"
        np.save(queries, windows)
        files = (str(checkpoint), str(payload), str(queries), str(out))
        options = ("--device", device, "--latency-queries", str(latency_queries))
        done = run_module("evaluation.service.predict", *files, *options)
        if done.returncode == 2:
            raise UserError(done.stderr.strip().splitlines()[-1])
        if done.returncode != 0:
            raise RuntimeError(f"evaluation.service.predict ended with code {done.returncode}:\n{done.stderr}")
        with np.load(out) as arrays:
            return {name: arrays[name] if arrays[name].ndim else arrays[name].item() for name in arrays.files}
