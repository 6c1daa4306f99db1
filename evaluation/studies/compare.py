"""Two runs on the same queries: what changed, and whether the second is worse beyond chance.

    python -m evaluation.compare RUN_A RUN_B [--metric novel.r@5]

Rows that both runs have are compared query by query; if the runs share none, their best variants are. Brackets are 95 %
intervals over articles. p is that of the sign flip over articles, corrected by Holm over the rows: the chance of a
false alarm for any of them is 5 %. Exit codes: 0 nothing is worse, 4 B is worse beyond chance on the metric for some
row, 2 the runs cannot be compared.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tabulate import tabulate

from data.errors import UserError, one_line
from evaluation.measures.metrics import DECISION_METRIC
from evaluation.measures.writing import gain_with_interval, is_share, write_value
from evaluation.queries import load_queries
from evaluation.results import load_all_arrays, load_results
from evaluation.statistics.outcomes import COMPARED_METRICS, Outcomes, Queries, mean
from evaluation.statistics.significance import Pair, compare_all

WORSE = 4
SHOWN = ("novel.r@5", "novel.contain@50", "r@1", "r@5", "r@10", "contain@50", "eff@5", "mrr@10", "cosine")


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of both runs: B minus A."""

    a: str
    b: str
    values_a: Mapping[str, float]
    pair: Pair

    def verdict(self, name: str) -> Literal["worse", "better", ""]:
        """Say what B is on a metric, beyond chance after Holm's correction over the rows."""
        better = self.pair.better_on(name)
        return "" if better is None else "better" if better == self.pair.a else "worse"

    @property
    def label(self) -> str:
        """The row's name, or both names where the best variants were paired."""
        return self.a if self.a == self.b else f"{self.a} -> {self.b}"


def compare_runs(run_a: str | Path, run_b: str | Path) -> list[Compared]:
    """Compare what two runs have in common.

    Raises:
        MissingFileError, UserError: in one line; a UserError when corpus or queries differ.
    """
    results_a, results_b = load_results(run_a), load_results(run_b)
    check_same_corpus(results_a["protocol"], results_b["protocol"], run_a, run_b)
    arrays_a, arrays_b = load_all_arrays(run_a, results_a["rows"]), load_all_arrays(run_b, results_b["rows"])
    named = [(name, name) for name in arrays_a if name in arrays_b and not _is_untrained(results_a, name)]
    best = (results_a.get("best"), results_b.get("best"))
    if not named and best[0] in arrays_a and best[1] in arrays_b:
        named = [(str(best[0]), str(best[1]))]
    if not named:
        raise UserError(f"{run_b}: expected a row in common with {run_a} or a best variant in both, got neither")
    queries = _common_queries(run_a, run_b)
    outcomes = {f"A {a}": Outcomes.of(arrays_a[a]) for a, _ in named}
    outcomes |= {f"B {b}": Outcomes.of(arrays_b[b]) for _, b in named}
    pairs = compare_all(outcomes, queries, pairs=[(f"B {b}", f"A {a}") for a, b in named])
    return [
        Compared(a, b, {name: mean(name, outcomes[f"A {a}"], queries) for name in pair.metrics}, pair)
        for (a, b), pair in zip(named, pairs, strict=True)
    ]


def _is_untrained(results: Mapping[str, Any], name: str) -> bool:
    """The untrained baselines are equal by construction: they would only fill the table."""
    return any(row["variant"] == name and not row.get("params") for row in results["rows"])


def check_same_corpus(a: Mapping[str, Any], b: Mapping[str, Any], run_a: str | Path, run_b: str | Path) -> None:
    """Refuse runs whose protocols name other data; UserError naming both."""
    if a.get("data_sha256") != b.get("data_sha256"):
        raise UserError(
            f"{run_b}: expected the corpus of {run_a} (sha256 {a.get('data_sha256')}), got {b.get('data_sha256')}; "
            "only runs on the same data can be compared"
        )


def _common_queries(run_a: str | Path, run_b: str | Path) -> Queries:
    """Identity, not luck: the windows themselves. Novel is what neither run has seen in training."""
    a, b = load_queries(run_a), load_queries(run_b)
    if len(a) != len(b):
        raise UserError(
            f"{run_b}: expected the {len(a)} queries of {run_a}, got {len(b)}; "
            "evaluate both with the same number of final queries"
        )
    if not np.array_equal(a.windows, b.windows):
        differ = len(a) if a.windows.shape != b.windows.shape else int((a.windows != b.windows).any(axis=1).sum())
        raise UserError(
            f"{run_b}: expected the queries of {run_a}, got {differ} of {len(b)} others; use the same seed and split"
        )
    return Queries(a.article, a.novel & b.novel)


def render(compared: Sequence[Compared]) -> str:
    """Return a table with A, B, the difference and its interval for every row and metric."""
    rows = []
    for one in compared:
        for name in SHOWN:
            found, before = one.pair.metrics[name], one.values_a[name]
            label = one.label if name == SHOWN[0] else ""
            unit = f"{name} %" if is_share(name) else name
            values = [write_value(value, name) for value in (before, before + found.difference)]
            gain = gain_with_interval(found.difference, found.ci, name)
            rows.append([label, unit, *values, gain, f"{found.p_holm:.3f}", one.verdict(name)])
    headers = ["row", "metric", "A", "B", "B - A (95 %)", "Holm p", ""]
    align = ["left", "left", "right", "right", "right", "right", "left"]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def _check_defined(compared: Sequence[Compared], name: str) -> None:
    """An undefined metric is worse for no row, which must not read as a good end."""
    undefined = [one.label for one in compared if math.isnan(one.pair.metrics[name].p)]
    if undefined:
        raise UserError(
            f"--metric: expected one that these queries define, got {name} for {', '.join(undefined)}; "
            "name another, such as r@5 (novel metrics need queries that are novel to both runs)"
        )


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_a", help="the run to compare with")
    parser.add_argument("run_b", help="the run in question")
    parser.add_argument("--metric", default=DECISION_METRIC, choices=COMPARED_METRICS, help="decides the exit code")
    args = parser.parse_args(argv)
    try:
        compared = compare_runs(args.run_a, args.run_b)
        _check_defined(compared, args.metric)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    worse = [one.label for one in compared if one.verdict(args.metric) == "worse"]
    sys.stdout.write(f"A {args.run_a}\nB {args.run_b}\n{render(compared)}\n")
    said = f"worse beyond chance: {', '.join(worse)}" if worse else "nothing is worse"
    sys.stdout.write(f"{said} ({args.metric}, sign flip over articles, Holm over {len(compared)} rows)\n")
    return WORSE if worse else 0
