"""The torch side of an evaluation: a checkpoint and query windows in, unit predictions out. Imports no FAISS.

Q queries, L context chunks, D dimension.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data.io import file_sha256
from data.payload.store import open_payload
from evaluation.measures.latency import Latency, measure, one_thread
from models.training.checkpoint import load_model

Float32 = npt.NDArray[np.float32]
BATCH_SIZE = 1_024


def predict(
    checkpoint: str | Path,
    payload: str | Path,
    windows: npt.NDArray[np.int32],
    *,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    latency_queries: int = 0,
    trusted: Collection[str] = (),
) -> dict[str, Any]:
    """Predict the target of every window and time the forward pass on single queries.

    Args:
        checkpoint: a file of `models.training.checkpoint.save_model`.
        payload: folder of the payload whose rows the windows name.
        windows: (Q, L + 1) rows; only the L context rows are read.
        batch_size: windows per forward pass.
        device: where the model runs.
        latency_queries: how many single forward passes are timed, one thread, after a warm-up; 0 times none.
        trusted: import paths of models of somebody else that the checkpoint may name.

    Returns:
        `predictions` (Q, D) float32, `predict_ms` (T,) the timed forward passes, `predict_p95_ms` (NaN when not
        timed), `params`, `sha256` of the file, `epoch`.

    Raises:
        MissingFileError, UserError: no such file, a damaged one, or one of another dimension than the payload.
    """
    opened = open_payload(payload)
    loaded = load_model(checkpoint, device=device, dim=opened.dim, trusted=trusted)
    context = windows[:, :-1]
    latency = forward_latency(loaded.model, opened.vectors, context, latency_queries, device)
    return {
        "predictions": predict_rows(loaded.model, opened.vectors, context, batch_size, device),
        "predict_ms": latency.samples_ms.astype(np.float32),
        "predict_p95_ms": latency.p95_ms,
        "params": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "sha256": file_sha256(checkpoint),
        "epoch": loaded.epoch,
    }


@torch.inference_mode()
def predict_rows(
    model: nn.Module,
    vectors: npt.NDArray[np.floating],
    context: npt.NDArray[np.int32],
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
) -> Float32:
    """The model's last position for every context (Q, L) of rows of vectors (N, D): (Q, D) float32."""
    predictions = np.empty((len(context), vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(context), batch_size):
        rows = context[start : start + batch_size]
        batch = torch.from_numpy(np.asarray(vectors[rows], dtype=np.float32)).to(device)  # (B, L, D)
        predictions[start : start + batch_size] = model(batch)[:, -1].float().cpu().numpy()
    return predictions


@torch.inference_mode()
def forward_latency(
    model: nn.Module,
    vectors: npt.NDArray[np.floating],
    context: npt.NDArray[np.int32],
    num_timed: int,
    device: str = "cpu",
) -> Latency:
    """Wall time of one forward pass of one context, vector in, vector out, on one thread."""
    if num_timed == 0 or len(context) == 0:
        return Latency(np.empty(0))
    sample = np.asarray(vectors[context[:num_timed]], dtype=np.float32)  # (T, L, D)

    def forward(query: Float32) -> Float32:
        answer: Float32 = model(torch.from_numpy(query).to(device))[:, -1].float().cpu().numpy()
        return answer

    with one_thread(torch.set_num_threads, torch.get_num_threads):
        return measure(forward, sample, num_timed)
