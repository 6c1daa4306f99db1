"""Two runs on the same queries: what changed, and whether the second is worse beyond chance.

    python -m evaluation.compare RUN_A RUN_B [--metric r@5]

Rows that both runs have are compared query by query; if the runs share none, their best variants are. Exit codes:
0 nothing is worse, 4 B is worse beyond the interval on the metric for some row, 2 the runs cannot be compared.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from data.errors import UserError
from evaluation.measures.metrics import METRICS, RETRIEVAL_METRICS
from evaluation.results import Arrays, load_all_arrays, load_results
from evaluation.statistics.significance import DECISION_METRIC, Difference, Outcomes, compare_all

WORSE = 4
SHOWN = ("r@1", "r@5", "r@10", "contain@50", "eff@5", "mrr@10", "cosine")


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of both runs: metrics of B minus A."""

    a: str
    b: str
    values_a: Mapping[str, float]
    differences: Mapping[str, Difference]

    def worse(self, name: str) -> bool:
        """Whether B is worse and the whole interval of the difference says so (every retrieval metric counts up)."""
        return self.differences[name].ci[1] < 0

    def better(self, name: str) -> bool:
        """Whether B is better and the whole interval says so."""
        return self.differences[name].ci[0] > 0

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
    _check_same_queries(arrays_a[named[0][0]], arrays_b[named[0][1]], run_a, run_b)
    return [_compared(a, b, arrays_a[a], arrays_b[b]) for a, b in named]


def _is_untrained(results: Mapping[str, Any], name: str) -> bool:
    """The untrained baselines are equal by construction: they would only fill the table."""
    return any(row["variant"] == name and not row.get("params") for row in results["rows"])


def check_same_corpus(a: Mapping[str, Any], b: Mapping[str, Any], run_a: str | Path, run_b: str | Path) -> None:
    """Refuse runs whose protocols name other data; UserError naming both."""
    for key in ("data_sha256", "payload_sha256"):
        if a.get(key) != b.get(key):
            raise UserError(
                f"{run_b}: expected the corpus of {run_a} ({key} {a.get(key)}), got {b.get(key)}; "
                "only runs on the same data can be compared"
            )


def _check_same_queries(a: Arrays, b: Arrays, run_a: str | Path, run_b: str | Path) -> None:
    """Identity, not luck: the windows themselves where both runs kept them, else at least their number."""
    if len(a["ranks"]) != len(b["ranks"]):
        raise UserError(
            f"{run_b}: expected the {len(a['ranks'])} queries of {run_a}, got {len(b['ranks'])}; "
            "evaluate both with the same number of final queries"
        )
    missing = [str(run) for run, kept in ((run_a, a), (run_b, b)) if "windows" not in kept]
    if missing:
        raise UserError(
            f"{missing[0]}: expected windows.npy beside ranks.npy, got none; without the queries themselves two runs "
            "cannot be compared query by query, so evaluate it again"
        )
    if not np.array_equal(a["windows"], b["windows"]):
        differ = int((a["windows"] != b["windows"]).any(axis=1).sum())
        raise UserError(
            f"{run_b}: expected the queries of {run_a}, got {differ} of {len(b['windows'])} others; "
            "use the same seed and split"
        )


def _compared(a: str, b: str, arrays_a: Arrays, arrays_b: Arrays) -> Compared:
    outcomes = {"B": Outcomes.of(arrays_b), "A": Outcomes.of(arrays_a)}
    (pair,) = compare_all(outcomes, RETRIEVAL_METRICS)
    return Compared(a, b, {name: outcomes["A"].mean(name) for name in RETRIEVAL_METRICS}, pair.metrics)


def render(compared: list[Compared]) -> str:
    """A table with A, B, the difference and its interval for every row and metric."""
    rows = []
    for one in compared:
        for name in SHOWN:
            found, share = one.differences[name], METRICS[name].unit == "share"
            before, (low, high) = one.values_a[name], found.ci
            numbers = [before, before + found.difference, found.difference, low, high]
            shown = [f"{100 * value:+.1f}" if share else f"{value:+.3f}" for value in numbers]
            verdict = "worse" if one.worse(name) else "better" if one.better(name) else ""
            label = one.label if name == SHOWN[0] else ""
            values = [text.lstrip("+") for text in shown[:2]]
            p = "" if found.p is None else f"{found.p:.3f}"
            unit = f"{name} %" if share else name
            rows.append([label, unit, *values, f"{shown[2]} ({shown[3]} to {shown[4]})", p, verdict])
    headers = ["row", "metric", "A", "B", "B - A (95 %)", "p", ""]
    align = ["left", "left", "right", "right", "right", "right", "left"]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_a", help="the run to compare with")
    parser.add_argument("run_b", help="the run in question")
    parser.add_argument("--metric", default=DECISION_METRIC, choices=RETRIEVAL_METRICS, help="decides the exit code")
    args = parser.parse_args(argv)
    try:
        compared = compare_runs(args.run_a, args.run_b)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    worse = [one.label for one in compared if one.worse(args.metric)]
    sys.stdout.write(f"A {args.run_a}\nB {args.run_b}\n{render(compared)}\n")
    said = f"worse on {args.metric} beyond the interval: {', '.join(worse)}" if worse else "nothing is worse"
    sys.stdout.write(f"{said} ({args.metric}, paired bootstrap, 95 %)\n")
    return WORSE if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
