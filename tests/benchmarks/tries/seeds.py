"""The rows of one experiment under one seed: made in processes of their own, kept, and searched in this one.

FAISS and torch must not share a process: each is imported where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.io import replacing
from data.prepare import prepare_data
from evaluation.config import IndexConfig
from evaluation.retrieval.corpus import QuerySet
from evaluation.statistics.outcomes import Outcomes
from evaluation.studies.seed_runs import SeedRun
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config
from orchestrator.questions import make_questions
from tests.benchmarks.bare_loop import processes

FOLDER = Path("artifacts/tries")
TOGETHER = (
    (
        "whitened_ridge",
        "linear",
        "mamba_s",
        "whitened_ewm",
        "less_own_span",
        "less_own_mean",
        "mix_of_variant_and_line",
        "mix_of_two_lines",
        "on_trained_line",
        "low_rank",
        "random_features",
    ),
    ("averaged_weights", "own_context_not_ranked", "recall_at_5_alone"),
    ("recall_at_50_alone", "logarithm_of_ranks"),
)
"""Rows that one process makes: it trains once what several of them are made of."""


class Seed:
    """The experiment under one seed: what is asked, and where rows' predictions are kept."""

    def __init__(self, experiment: str, settings: Sequence[str], seed: int) -> None:
        self.config = load_config(Path(experiment), (*settings, f"seed={seed}"))
        data = prepare_data(self.config.data, Path(self.config.data.cache_dir), seed=seed)
        self.payload = data.payload
        self.queries = make_questions(self.config, data).final
        self.folder = FOLDER / f"{data.payload.provenance.sha256[:12]}-{self.config.fingerprint()[:12]}"

    def missing(self, rows: Sequence[str]) -> list[str]:
        return [row for row in rows if not self._file(row).is_file()]

    def outcomes(self) -> SeedRun:
        """Search every row's predictions."""
        from evaluation.service.actor import Evaluator

        asked = QuerySet("final", self.queries.windows, self.queries.novel)
        evaluator = Evaluator(str(self.payload.path), IndexConfig(kind="flat"), [asked])
        rows = [row for together in TOGETHER for row in together]
        found = {row: evaluator.evaluate(row, "final", np.load(self._file(row))) for row in rows}
        return SeedRun(self.queries.known, {row: Outcomes.of(arrays) for row, arrays in found.items()})

    def _file(self, row: str) -> Path:
        return self.folder / f"{row}.npy"


def make(config: ExperimentConfig, rows: Sequence[str], folder: Path) -> None:
    """Train and keep predictions; runs in a process of its own."""
    from tests.benchmarks.tries.rows import predict

    folder.mkdir(parents=True, exist_ok=True)
    for row, predictions in predict(config, rows):
        with replacing(folder / f"{row}.npy") as file:
            np.save(file, predictions)
        sys.stderr.write(f"{folder.name}: {row}\n")


def make_missing(seeds: Sequence[Seed]) -> None:
    """Make what no earlier call has left, two processes at a time."""
    with processes(2) as pool:
        jobs = [
            pool.submit(make, seed.config, rows, seed.folder)
            for together in TOGETHER
            for seed in seeds
            if (rows := seed.missing(together))
        ]
        for job in jobs:
            job.result()
