"""All that a decision follows from: the rows, their outcomes, the reference, and the pairs compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.measures.metrics import DECISION_METRIC
from evaluation.results import Row, survived
from evaluation.statistics.outcomes import Outcomes, Queries, mean
from evaluation.statistics.resampling import Interval, intervals
from evaluation.statistics.significance import Difference, Pair, compare_all

BEST_BASELINE = "best_baseline"

Word = Literal["PRODUCTION READY", "TIE", "BEHIND", "REJECT"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured, and what it is held against."""

    rows: Sequence[Row]
    outcomes: Mapping[str, Outcomes]
    queries: Queries
    reference: str | float | None  # a row's name, a given share, or nothing
    pairs: Sequence[Pair]  # one family: variants against each other, and each against the reference (as `b`)
    seed: int

    @property
    def variants(self) -> list[Row]:
        """The rows that can be best."""
        return _variants(self.rows, self.reference)

    @property
    def survivors(self) -> list[str]:
        """The variants that were evaluated at the end, the highest decision metric first."""
        names = [row["variant"] for row in self.variants if self.is_evaluated(row)]
        return sorted(names, key=lambda name: -_or_lowest(self.value(name)))

    def is_evaluated(self, row: Row) -> bool:
        """Whether a row has final outcomes."""
        return survived(row) and row["variant"] in self.outcomes

    def value(self, name: str, metric: str = DECISION_METRIC) -> float:
        """Return a metric of a row."""
        return mean(metric, self.outcomes[name], self.queries)

    def leader(self, metric: str = DECISION_METRIC) -> str | None:
        """Return the evaluated row with the highest metric, whatever it is; None without a defined one."""
        return _highest(self.rows, self.outcomes, self.queries, metric)

    def against_reference(self, name: str) -> tuple[Difference, str | None]:
        """Return a variant's decision metric less that of the reference row, and which of both is better, if any."""
        pair = next(pair for pair in self.pairs if (pair.a, pair.b) == (name, self.reference))
        return pair.metrics[DECISION_METRIC], pair.better

    def own_interval(self, name: str) -> Interval:
        """Return the interval of a variant's decision metric, for a reference that is a number."""
        return intervals(self.outcomes[name], self.queries, (DECISION_METRIC,), seed=self.seed)[DECISION_METRIC]

    def row(self, name: str) -> Row:
        """Return the row of that name."""
        return next(row for row in self.rows if row["variant"] == name)


def gather(
    rows: Sequence[Row],
    outcomes: Mapping[str, Outcomes],
    queries: Queries,
    *,
    reference: str | float | None,
    names: Sequence[str],
    num_resamples: int,
    seed: int,
) -> Evidence:
    """Find the reference and compare the family: variants among each other and against the reference."""
    if reference == BEST_BASELINE:
        baselines = [row for row in rows if row.get("kind") == "baseline"]
        # A model that stayed the line it started from is equal to that line, which has no parameters.
        reference = _highest(sorted(baselines, key=lambda row: row.get("params") or 0), outcomes, queries)
    elif isinstance(reference, str) and reference not in outcomes:
        reference = None
    family = [row["variant"] for row in _variants(rows, reference) if survived(row) and row["variant"] in outcomes]
    if isinstance(reference, str):
        family.append(reference)
    pairs = compare_all(
        {name: outcomes[name] for name in family}, queries, names, num_resamples=num_resamples, seed=seed
    )
    return Evidence(rows, outcomes, queries, reference, pairs, seed)


def _variants(rows: Sequence[Row], reference: str | float | None) -> list[Row]:
    return [row for row in rows if row.get("kind") == "variant" and row["variant"] != reference]


def _highest(
    rows: Sequence[Row], outcomes: Mapping[str, Outcomes], queries: Queries, metric: str = DECISION_METRIC
) -> str | None:
    """Return the row with the highest value, of equal ones the first."""
    names = [row["variant"] for row in rows if survived(row) and row["variant"] in outcomes]
    values = {name: mean(metric, outcomes[name], queries) for name in names}
    known = [name for name in names if not math.isnan(values[name])]
    return max(known, key=values.__getitem__, default=None)


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def failed_gates(row: Row, *, stage: Literal["final", "ready"]) -> str:
    """Return rule and value of every gate of a stage that failed; empty when all passed."""
    failed = [gate for gate in row.get("gates") or [] if not gate["passed"] and gate.get("stage", "final") == stage]
    return "; ".join(f"{gate['rule']}: got {_show(gate['value'])}" for gate in failed)


def _show(value: float | None) -> str:
    return "nothing" if value is None or math.isnan(value) else f"{value:.3g}"
