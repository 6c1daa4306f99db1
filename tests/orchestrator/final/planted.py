"""Final results of 200 queries, five an article: the first ones, as many as a share says, find their target."""

from typing import Any

import numpy as np

from evaluation.measures.latency import Latency
from evaluation.statistics.outcomes import Outcomes
from orchestrator.final.result import FinalResult

NUM_QUERIES = 200


def ranks(share: float) -> np.ndarray:
    return (np.arange(NUM_QUERIES) < share * NUM_QUERIES).astype(np.int32)


def answer(share: float) -> dict[str, Any]:
    """What the evaluation actor returns."""
    found = ranks(share)
    return {
        "metrics": {"r@5": share, "novel.r@5": share, "n_queries": NUM_QUERIES},
        "ci": {},
        "ranks": found,
        "ranks_pool": found,
        "cosine": np.zeros(NUM_QUERIES, np.float32),
    }


def result(share: float, p95_ms: float = 1.0, **metrics: float) -> FinalResult:
    figures = {"r@5": share, "novel.r@5": share, "contain@50": share, "n_queries": NUM_QUERIES}
    return FinalResult(
        metrics={**figures, "p95_ms": p95_ms, "answer_p95_ms": p95_ms, **metrics},
        ci={"answer_p95_ms": (p95_ms, p95_ms)},
        outcomes=Outcomes.of(answer(share)),
        predict=Latency(np.zeros(1)),
        chosen={},
        checkpoint_sha256="abc",
        checkpoint_epoch=1,
    )
