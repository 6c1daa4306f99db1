"""What was tried beside phase5.yaml's recipe, under three seeds: means over their test articles, on novel queries.

    python -m tests.benchmarks.tries [EXPERIMENT [KEY=VALUE ...]]     # phase5.yaml; half an hour or more on two cores

Each seed holds out other articles and trains anew, without Ray or gates. Predictions are kept in artifacts/tries: a
second call with the same settings only prints. Remove them when the code of a row has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from data.errors import UserError, one_line
from evaluation.measures.writing import gain_with_interval, value_with_interval, write_value
from evaluation.studies.seed_runs import SeedRun
from evaluation.studies.seeds import Pooled, pool
from tests.benchmarks.tries.seeds import Seed, make_missing

SEEDS = (20, 21, 22)
AGAINST = ("whitened_ridge", "linear")
METRICS = {"novel.r@5": "novel R@5 %", "novel.contain@50": "novel Contain@50 %"}
WITHOUT_CONTEXT = "exclude_context.r@5"


def table(runs: Sequence[SeedRun]) -> str:
    """Return both figures of every row with their differences, and its R@5 without the own context."""
    pooled = {name: pool(runs, [*METRICS, WITHOUT_CONTEXT], name) for name in AGAINST}
    headers = ["row"]
    for title in METRICS.values():
        headers += [title, *(f"- {name}" for name in AGAINST)]
    lines = [[row, *_cells(pooled, row)] for row in pooled[AGAINST[0]]]
    headers.append("R@5 of all, without the own context")
    aligned = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned)


def _cells(pooled: dict[str, Pooled], row: str) -> Iterator[str]:
    first = pooled[AGAINST[0]][row]
    for metric in METRICS:
        mean = first[metric].mean
        yield value_with_interval(mean.value, mean.ci, metric)
        for name in AGAINST:
            difference = pooled[name][row][metric].difference
            yield gain_with_interval(difference.value, difference.ci, metric)
    yield write_value(first[WITHOUT_CONTEXT].mean.value, WITHOUT_CONTEXT)


def main(arguments: Sequence[str]) -> int:
    """Make what is missing and print the table; exit code 2 where the experiment or its data do not fit."""
    experiment, *settings = arguments or ("experiments/phase5.yaml",)
    try:
        seeds = [Seed(experiment, settings, seed) for seed in SEEDS]
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    make_missing(seeds)
    sys.stdout.write(table([seed.outcomes() for seed in seeds]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
