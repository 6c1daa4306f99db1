"""Why a trial retrieves nothing: the questions to ask first, answered with numbers when a gate prunes it.

Q queries, D dimension, N corpus rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.index.search import SearchIndex
from evaluation.measures.metrics import ranks
from evaluation.retrieval.corpus import Corpus, QuerySet

NUM_QUERIES = 200
DEPTH = 1_000
COLLAPSED = 0.95  # mean cosine between predictions of different queries from which they say the same of all


def triage(
    index: SearchIndex, query_set: QuerySet, predictions: npt.NDArray[np.floating], corpus: Corpus
) -> list[dict[str, Any]]:
    """Answer the questions on the first NUM_QUERIES of a query set with predictions (Q, D).

    Returns:
        One dict a question: `question`, `value`, and `finding`, which says what the value means.
    """
    rows = query_set.windows[:NUM_QUERIES]
    predicted = np.asarray(predictions[:NUM_QUERIES], np.float32)
    target = rows[:, -1]
    truth = np.asarray(corpus.vectors[target], np.float32)
    depth = min(DEPTH, len(corpus.vectors))
    norm_error = float(np.abs(np.linalg.norm(predicted, axis=1) - 1.0).max())
    truth_norm_error = float(np.abs(np.linalg.norm(truth, axis=1) - 1.0).max())
    alike = _mean_cosine_between(predicted)
    within = float((ranks(index.search(predicted, depth)[1], target, corpus.duplicate_ids) > 0).mean())
    oracle = float((ranks(index.search(truth, 1)[1], target, corpus.duplicate_ids) == 1).mean())
    return [
        _answer("are predictions of norm 1?", norm_error, norm_error < 1e-3, "yes", "no: normalise the model's output"),
        _answer(
            "are the targets payload rows of norm 1?",
            truth_norm_error,
            truth_norm_error < 1e-3,
            "yes",
            "no: see preflight",
        ),
        _answer(
            "is the oracle query (the target itself) found first?",
            oracle,
            oracle > 0.99,
            "yes: the index is sound",
            "no: index and targets are of different encodings, or the index probes too few cells",
        ),
        _answer(
            "do predictions differ from query to query?",
            alike,
            alike < COLLAPSED,
            "yes",
            "no: the model says the same of every context; lower the learning rate or the cosine weight",
        ),
        _answer(
            f"is the target within the first {depth:,}?",
            within,
            within > 0.5,
            "mostly: the model points in the right direction and needs more training",
            "mostly not: the model has not learnt the direction",
        ),
    ]


def _answer(question: str, value: float, good: bool, yes: str, no: str) -> dict[str, Any]:
    return {"question": question, "value": value, "finding": yes if good else no}


def _mean_cosine_between(predicted: npt.NDArray[np.float32]) -> float:
    """Mean cosine of two different rows of (Q, D) unit rows; 0 for fewer than two."""
    num = len(predicted)
    if num < 2:
        return 0.0
    total = np.square(np.linalg.norm(predicted.sum(axis=0))) - num
    return float(total / (num * (num - 1)))
