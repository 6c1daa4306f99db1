"""Predict in a process of its own: for command lines that also search, since torch and FAISS never share a process."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def predict_in_process(
    checkpoint: str | Path,
    payload: str | Path,
    windows: npt.NDArray[np.int32],
    *,
    device: str = "cpu",
    latency_queries: int = 0,
) -> dict[str, Any]:
    """What `evaluation.predict.Predictor.predict` returns, computed by `python -m evaluation.predict`.

    Raises:
        ValueError: with the one line that the process wrote, e.g. about a damaged checkpoint.
    """
    with tempfile.TemporaryDirectory() as folder:
        queries, out = Path(folder) / "windows.npy", Path(folder) / "predictions.npz"
        np.save(queries, windows)
        command = [sys.executable, "-m", "evaluation.predict", str(checkpoint), str(payload), str(queries), str(out)]
        options = ["--device", device, "--latency-queries", str(latency_queries)]
        # The child finds the packages where this process found them, installed or not.
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=env)
        if done.returncode == 2:
            raise ValueError(done.stderr.strip().splitlines()[-1])
        if done.returncode != 0:
            raise RuntimeError(f"evaluation.predict ended with code {done.returncode}:\n{done.stderr}")
        with np.load(out) as arrays:
            return {name: arrays[name] if arrays[name].ndim else arrays[name].item() for name in arrays.files}
