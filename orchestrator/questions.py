"""Which windows are asked, and which of them are novel: smoke and validation from validation articles, final from test.

Letters: Q queries, L chunks of context.
"""

from __future__ import annotations

from dataclasses import dataclass

from data.prepare import PreparedData
from data.windows.queries import final_queries, smoke_queries, validation_queries
from evaluation.queries import RunQueries, with_novelty
from evaluation.retrieval.corpus import QuerySet
from orchestrator.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Questions:
    """The query sets of a run, each with the article of every query and whether it is novel."""

    val: RunQueries
    """What each epoch is validated on, and what is chosen on."""
    smoke: RunQueries
    """What smoke evaluations ask, so that pruning sees nothing of the final test."""
    final: RunQueries

    def sets(self) -> list[QuerySet]:
        """Return what the evaluator is asked."""
        named = {"smoke": self.smoke, "final": self.final}
        return [QuerySet(name, queries.windows, queries.novel) for name, queries in named.items()]


def make_questions(config: ExperimentConfig, data: PreparedData) -> Questions:
    """Draw the query sets and compare every target with the training windows, each target once."""
    splits, seed = data.splits, config.seed
    tables = {
        "val": validation_queries(splits, config.training.val_windows, seed),
        "smoke": smoke_queries(splits, config.smoke.queries, seed),
        "final": final_queries(splits, config.final.queries, seed),
    }
    return Questions(**with_novelty(tables, data.payload.vectors, splits.train.rows, config.evaluation.novel_below))
