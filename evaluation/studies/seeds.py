"""One experiment under several seeds: the mean of every row over the runs, and its difference to one row.

    python -m evaluation.seeds RUN RUN RUN [--against base] [--metrics novel.r@5,r@5] [--format md|csv]

Each seed holds out other articles and trains anew. Brackets are 95 % intervals over articles, see
evaluation.statistics.resampling. The runs' own differences stand beside them: only these show what another training
changes. Exit codes: 0 the table is printed, 2 the runs do not fit together.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.errors import UserError, one_line
from evaluation.measures.metrics import split_prefix
from evaluation.measures.writing import gain_with_interval, is_share, value_with_interval, write_gain
from evaluation.report import render
from evaluation.report.columns import NAME, Column, Section
from evaluation.results import Row
from evaluation.statistics.articles import sum_by_article
from evaluation.statistics.outcomes import COMPARED_METRICS, Float64, Queries
from evaluation.statistics.resampling import Interval, bootstrap, interval
from evaluation.studies.seed_runs import SeedRun, load_runs

SHOWN = "novel.r@5,novel.contain@50"
_TITLES = {"mrr@10": "MRR@10"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over runs."""

    value: float
    ci: Interval
    by_run: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one row: itself, and less that of the row it is held against."""

    mean: Estimate
    difference: Estimate


Pooled = dict[str, dict[str, Figure]]
"""Row -> metric -> figure, in the order of the rows and of the metrics asked for."""


def pool(runs: Sequence[SeedRun], metrics: Sequence[str], against: str) -> Pooled:
    """Return each row's mean over the runs and its difference to the row `against`.

    Raises:
        UserError: no row has the name `against`.
    """
    names = list(runs[0].rows)
    if against not in names:
        raise UserError(f"--against: expected one of {', '.join(names)}, got {against!r}; name a row of the runs")
    sums = sum_by_article([(run.rows, run.queries) for run in runs], metrics)
    by_run, resampled = sums.by_run, bootstrap(sums)  # (S, rows, metrics), (R, rows, metrics)
    reference = names.index(against)
    pooled: Pooled = {name: {} for name in names}
    for row, name in enumerate(names):
        for column, metric in enumerate(metrics):
            values, draws = by_run[:, row, column], resampled[:, row, column]
            others, other_draws = by_run[:, reference, column], resampled[:, reference, column]
            pooled[name][metric] = Figure(
                mean=_estimate(values, draws, sums.num_effective[column]),
                difference=_estimate(values - others, draws - other_draws, sums.num_effective[column]),
            )
    return pooled


def _estimate(by_run: Float64, resampled: Float64, num_effective: float) -> Estimate:
    """From the runs' values (S,) and the resampled means over runs (R,)."""
    return Estimate(float(by_run.mean()), interval(resampled, num_effective), tuple(by_run.tolist()))


def section(pooled: Pooled, metrics: Sequence[str], against: str) -> Section:
    """The table: three columns a metric."""
    columns = [NAME]
    for metric in metrics:
        prefix, bare = split_prefix(metric)
        title = prefix.replace(".", " ") + _TITLES.get(bare, bare.capitalize())
        columns += [
            Column(title + (" %" if is_share(metric) else ""), _mean_cell(metric)),
            Column(f"- {against}", _difference_cell(metric)),
            Column("by run", _by_run_cell(metric)),
        ]
    return Section("Seeds", tuple(columns), tuple({"variant": name, **row} for name, row in pooled.items()))


def _mean_cell(metric: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        mean: Estimate = row[metric].mean
        return value_with_interval(mean.value, mean.ci, metric)

    return cell


def _difference_cell(metric: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        difference: Estimate = row[metric].difference
        return gain_with_interval(difference.value, difference.ci, metric)

    return cell


def _by_run_cell(metric: str) -> Callable[[Row], str]:
    return lambda row: " ".join(write_gain(value, metric) for value in row[metric].difference.by_run)


def csv_text(pooled: Pooled) -> str:
    """One line a row and metric at full precision; shares stay 0..1, the runs' values are separated by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = ("mean", "low", "high", "by_run")
    writer.writerow(["variant", "metric", *figures, *(f"difference_{figure}" for figure in figures)])
    for name, row in pooled.items():
        for metric, figure in row.items():
            estimates = (figure.mean, figure.difference)
            cells = [(one.value, *one.ci, " ".join(map(str, one.by_run))) for one in estimates]
            writer.writerow([name, metric, *cells[0], *cells[1]])
    return out.getvalue()


def _sizes(queries: Queries) -> str:
    return f"{len(queries):,} ({queries.novel.sum():,} novel) in {queries.num_units():,} articles"


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.seeds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of one experiment under several seeds")
    parser.add_argument("--against", default="base", metavar="ROW", help="the row that differences are taken to")
    parser.add_argument("--metrics", default=SHOWN, help=f"some of {', '.join(COMPARED_METRICS)}")
    parser.add_argument("--format", default="md", choices=("md", "csv"))
    args = parser.parse_args(argv)
    metrics = args.metrics.split(",")
    try:
        for metric in metrics:
            if metric not in COMPARED_METRICS:
                known = ", ".join(COMPARED_METRICS)
                raise UserError(f"--metrics: expected some of {known}, got {metric!r}; correct the name")
        runs = load_runs(args.runs)
        pooled = pool(runs, metrics, args.against)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    if args.format == "csv":
        sys.stdout.write(csv_text(pooled))
        return 0
    sizes = "; ".join(_sizes(run.queries) for run in runs)
    sys.stdout.write(f"{render.markdown(section(pooled, metrics, args.against))}\n\n")
    means = f"Means over {len(runs)} runs" if len(runs) > 1 else "Means of one run"
    sys.stdout.write(f"{means} with 95 % intervals over articles; queries: {sizes}.\n")
    return 0
