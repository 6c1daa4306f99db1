"""The torch side of an evaluation: a checkpoint and query windows in, unit predictions out. Imports no FAISS.

Q queries, L context chunks, D dimension.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data.errors import UserError
from data.payload.store import open_payload
from evaluation.measures.latency import Latency, measure, one_thread
from models.training.checkpoint import load_model

Float32 = npt.NDArray[np.float32]
BATCH_SIZE = 1_024


class Predictor:
    """Predicts with checkpoints; a plain class that the orchestrator may wrap with `ray.remote`."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def predict(
        self,
        checkpoint_path: str,
        payload_path: str,
        windows: npt.NDArray[np.int32],
        batch_size: int = BATCH_SIZE,
        *,
        latency_queries: int = 200,
    ) -> dict[str, Any]:
        """Predict the target of every window and time the forward pass on single queries.

        Args:
            checkpoint_path: a file of `models.checkpoint.save_model`.
            payload_path: folder of the payload whose rows the windows name.
            windows: (Q, L + 1) rows; only the L context rows are read.
            batch_size: windows per forward pass.
            latency_queries: how many single forward passes are timed, one thread, after a warm-up; 0 times none.

        Returns:
            `predictions` (Q, D) float32, `predict_p95_ms` (NaN when not timed), `params`, `sha256` of the file,
            `epoch`.

        Raises:
            UserError: when the checkpoint is damaged or of another dimension than the payload.
        """
        payload = open_payload(payload_path)
        vectors = payload.vectors
        loaded = load_model(checkpoint_path, device=self._device, dim=payload.dim)
        model = loaded.model.eval()
        context = windows[:, :-1]
        predictions = predict_rows(model, vectors, context, batch_size, self._device)
        latency = forward_latency(model, vectors, context, latency_queries, self._device)
        return {
            "predictions": predictions,
            "predict_p95_ms": latency.p95_ms,
            "params": sum(parameter.numel() for parameter in model.parameters()),
            "sha256": hashlib.sha256(Path(checkpoint_path).read_bytes()).hexdigest(),
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


def main(argv: list[str] | None = None) -> int:
    """Predict from files to a file; see `evaluation.service.predict_process`, which calls it."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.service.predict", description=__doc__)
    parser.add_argument("checkpoint", help="best.pt or last.pt of a variant")
    parser.add_argument("payload", help="folder of the payload")
    parser.add_argument("windows", help="npy file of (Q, L + 1) rows")
    parser.add_argument("out", help="npz file to write")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--latency-queries", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        windows = np.load(args.windows)
        predictor = Predictor(args.device)
        answer = predictor.predict(args.checkpoint, args.payload, windows, latency_queries=args.latency_queries)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    np.savez(args.out, allow_pickle=False, **answer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
