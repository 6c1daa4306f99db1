"""A finished run's variant as the command lines study it: its corpus, its final queries, its predictions."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from data.errors import UserError, check_range
from data.io import check_file
from data.payload.store import open_payload
from evaluation.config import RerankConfig
from evaluation.queries import load_queries
from evaluation.results import load_config, load_results, payload_folder, trial_of
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
    check_range("--queries", limit, 1)
    results = load_results(run)
    variant = variant or results.get("best")
    if variant is None:
        raise UserError(f"{run}: expected a run with a best variant, got none; name one with --variant")
    folder = Path(run) / "variants" / trial_of(results, variant)
    check_file(folder / "best.pt", "a checkpoint")  # before a process with torch is started for it
    windows = load_queries(run).windows[:limit]
    searched = payload_folder(run, payload)
    entry = (load_config(run).get("variants") or {}).get(variant) or {}
    predicted = in_own_process(
        *("evaluation.service.predict", "predict"),
        *(folder / "best.pt", searched, windows),
        trusted=[str(entry.get("model"))],  # whoever names the run has seen what it trained
    )
    return Subject(corpus_of(open_payload(searched)), QuerySet(variant, windows), predicted["predictions"])


def rerank_of(run: str | Path) -> RerankConfig | None:
    """Return the reranker that a run's own config.yaml switches on; None where it has none."""
    file = Path(run) / "config.yaml"
    section = yaml.safe_load(file.read_text(encoding="utf-8")).get("rerank") if file.is_file() else None
    return None if section is None else RerankConfig(**section)


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `load_subject`: run, --variant, --payload, --queries."""
    parser.add_argument("run", help="run folder")
    parser.add_argument("--variant", help="whose predictions; default: the best")
    parser.add_argument("--payload", help="folder of the payload; default: the run's")
    parser.add_argument("--queries", type=int, default=1_000, help="how many of the final queries")
