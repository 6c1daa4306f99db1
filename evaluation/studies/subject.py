"""A finished run's variant as the command lines study it: its corpus, its final queries, its predictions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import UserError
from data.payload.store import open_payload
from evaluation.queries import load_queries
from evaluation.results import load_results, payload_folder
from evaluation.retrieval.corpus import Corpus, QuerySet, corpus_of
from evaluation.service.process import in_own_process


@dataclass(frozen=True, slots=True)
class Subject:
    """What is searched, for what, with what."""

    corpus: Corpus
    queries: QuerySet  # named after the variant
    predictions: npt.NDArray[np.float32]  # (Q, D)


def load_subject(run: str | Path, variant: str | None, payload: str | None, limit: int | None) -> Subject:
    """Predict the first `limit` final queries of a run with a variant's best.pt; None: the run's best variant.

    Raises:
        MissingFileError, UserError: in one line.
    """
    variant = variant or load_results(run).get("best")
    if variant is None:
        raise UserError(f"{run}: expected a run with a best variant, got none; name one with --variant")
    folder = Path(run) / "variants" / variant
    windows = load_queries(run).windows[:limit]
    searched = payload_folder(run, payload)
    predicted = in_own_process("evaluation.service.predict", "predict", folder / "best.pt", searched, windows)
    return Subject(corpus_of(open_payload(searched)), QuerySet(variant, windows), predicted["predictions"])
