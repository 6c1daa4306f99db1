"""What each term of the reranker is worth: none of it, all of it, each term left out, and the prior without a model.

All of it is the run's own `rerank` section, or the default reranker where the run has none.

python -m evaluation.ablation RUN [--variant mamba_s] [--payload FOLDER] [--queries 1000]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from tabulate import tabulate

from data.errors import UserError, one_line
from evaluation.config import IndexConfig, RerankConfig
from evaluation.index.build import build_index
from evaluation.index.search import SearchIndex
from evaluation.measures.latency import measure
from evaluation.measures.metrics import K_MAX
from evaluation.measures.writing import write_value
from evaluation.retrieval.baselines import PRIOR_ONLY
from evaluation.retrieval.evaluate import evaluate, evaluate_prior_only
from evaluation.retrieval.rerank import Reranker
from evaluation.studies.subject import Subject, add_subject_arguments, load_subject, rerank_of

WITHOUT: dict[str, dict[str, Any]] = {
    "without MMR": {"mmr_lambda": 1.0},
    "without shard assist": {"k_local": 0},
    "without same article": {"same_article": 0.0},
    "without sequence": {"sequence": 0.0},
    "without directional": {"directional": 0.0},
    "without any position": {"k_local": 0, "same_article": 0.0, "sequence": 0.0},
}
"""What each setting changes of the full reranker."""
SHOWN = ("r@1", "r@5", "r@10", "contain@50", "eff@5", "mrr@10", "exclude_context.r@5")
NUM_TIMED = 200


def ablate(subject: Subject, full: RerankConfig) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and metrics of every setting, on the same predictions and the same flat index."""
    settings = {"no reranker": None, "full": full, **{name: replace(full, **less) for name, less in WITHOUT.items()}}
    index = build_index(subject.corpus.vectors, IndexConfig(kind="flat"))
    numbers = np.arange(len(subject.queries))[:, None]
    for name, setting in settings.items():
        reranker = Reranker(subject.corpus, setting) if setting is not None else None
        result = evaluate(index, subject.queries, subject.predictions, subject.corpus, variant=name, reranker=reranker)
        with index.search_on_one_thread():
            latency = measure(_answerer(index, subject, reranker), numbers, NUM_TIMED)
        yield name, result.metrics() | latency.metrics()
    prior = evaluate_prior_only(subject.queries, subject.corpus, Reranker(subject.corpus, full))
    yield PRIOR_ONLY, prior.metrics()


def _answerer(index: SearchIndex, subject: Subject, reranker: Reranker | None) -> Callable[[Any], object]:
    """One query by its number, through search and the reranker."""

    def answer(number: Any) -> object:
        place = slice(int(number[0, 0]), int(number[0, 0]) + 1)
        one = subject.predictions[place]
        pool = index.search(one, K_MAX)[1]
        if reranker is None:
            return pool
        return reranker(one, subject.queries.context[place], pool, exclude_context=False)

    return answer


def render(rows: list[tuple[str, dict[str, float]]]) -> str:
    """A plain table, shares in per cent."""
    cells = [
        [
            name,
            *(write_value(metrics[key], key) for key in SHOWN),
            f"{metrics['p95_ms']:.2f}" if "p95_ms" in metrics else "-",
        ]
        for name, metrics in rows
    ]
    headers = ["setting", "R@1 %", "R@5 %", "R@10 %", "Contain@50 %", "Eff@5 %", "MRR@10", "R@5 % no ctx", "P95 ms"]
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(cells, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.ablation", description=__doc__)
    add_subject_arguments(parser)
    args = parser.parse_args(argv)
    try:
        configured = rerank_of(args.run)
        subject = load_subject(args.run, args.variant, args.payload, args.queries)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    origin = "the run's" if configured else "the default (the run has none)"
    sys.stdout.write(f"{subject.queries.name}, {len(subject.queries)} queries, flat index, full: {origin}\n")
    sys.stdout.write(render(list(ablate(subject, configured or RerankConfig()))) + "\n")
    return 0
