"""From rows, intervals and pairs to the decision: which variant is best, how surely, and what each one is worth.

A variant's verdict, from its final gates and its R@5 against the reference (the learned baseline of the same run on
the same queries, or a number that was given):

    REJECT            it did not survive, or a final gate failed
    PRODUCTION READY  all final gates pass and R@5 is above the reference's, beyond chance
    TIE               all final gates pass and R@5 cannot be told from the reference's
    SUCCESS           all final gates pass; there is no reference, or the reference is still better
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evaluation.results import Row, survived
from evaluation.statistics.significance import DECISION_METRIC, Outcomes, Pair, compare_all, intervals, tie_groups

Word = Literal["SUCCESS", "PRODUCTION READY", "TIE", "REJECT"]

TIE_RULE = "among ties the lower P95 (equal where the 95 % intervals overlap), then fewer parameters, then R@5"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of four words and the numbers that made it."""

    word: Word
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that is decided once, after the final evaluation."""

    best: str | None
    headline: str
    verdicts: Mapping[str, Verdict]
    tie_group: Mapping[str, int]
    pairs: Sequence[Pair]

    def apply(self, rows: Sequence[Row]) -> None:
        """Write verdict, its reason and the tie group into the rows of results.json."""
        for row in rows:
            found = self.verdicts.get(row["variant"])
            if found is not None:
                row["verdict"], row["verdict_why"] = found.word, found.why
            if row["variant"] in self.tie_group:
                row["tie_group"] = self.tie_group[row["variant"]]


def decide(
    rows: Sequence[Row],
    outcomes: Mapping[str, Outcomes],
    *,
    reference: str | float | None = "amn",
    num_resamples: int = 2_000,
    seed: int = 0,
) -> Decision:
    """Name the best survivor with its tie group, and give every variant its verdict.

    Args:
        rows: of results.json, with the metrics and `gates`, dicts of rule, value, limit, passed. A gate with
            `stage: ready` is a further condition of PRODUCTION READY and rejects nobody. Rows of kind baseline
            cannot be best.
        outcomes: per-query outcomes of every evaluated row by name, all on the same queries.
        reference: name of the row that R@5 is held against, or a published value 0..1; None or an absent name: none.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    # Holm's family is what is decided: variants among each other and against the reference. Untrained baselines have
    # their own gates; as members they would only make real differences harder to show.
    family = [row["variant"] for row in rows if row.get("kind") == "variant" or row["variant"] == reference]
    compared = {name: outcomes[name] for name in family if name in outcomes}
    pairs = compare_all(compared, num_resamples=num_resamples, seed=seed)
    variants = [row for row in rows if row.get("kind") == "variant" and row["variant"] != reference]
    survivors = [row for row in variants if survived(row) and row["variant"] in compared]
    verdicts = {row["variant"]: _verdict(row, compared, pairs, reference) for row in variants}
    accepted = [row for row in survivors if verdicts[row["variant"]].word != "REJECT"]
    ordered = sorted(accepted, key=lambda row: -compared[row["variant"]].mean(DECISION_METRIC))
    groups = tie_groups([row["variant"] for row in ordered], pairs)
    best = _best([row for row in ordered if groups[row["variant"]] == 1])
    return Decision(best, _headline(best, groups, verdicts), verdicts, groups, pairs)


def _verdict(
    row: Row, compared: Mapping[str, Outcomes], pairs: Sequence[Pair], reference: str | float | None
) -> Verdict:
    name = row["variant"]
    if not survived(row) or name not in compared:
        return Verdict("REJECT", f"{row.get('status', 'not evaluated')}: {row.get('reason') or 'no final evaluation'}")
    gates = [gate for gate in row.get("gates") or [] if gate.get("stage") != "ready"]
    failed = _failed(gates)
    if failed:
        return Verdict("REJECT", failed)
    passed = f"{len(gates)} of {len(gates)} final gates passed" if gates else "no final gates"
    if isinstance(reference, str) and reference in compared:
        found = _against_row(name, compared, pairs, reference)
    elif isinstance(reference, float | int):
        found = _against_number(compared[name], float(reference))
    else:
        found = Verdict("SUCCESS", "no reference to compare with")
    not_ready = _failed([gate for gate in row.get("gates") or [] if gate.get("stage") == "ready"])
    if found.word == "PRODUCTION READY" and not_ready:
        return Verdict("SUCCESS", f"{passed}; not ready: {not_ready}; {found.why}")
    return Verdict(found.word, f"{passed}; {found.why}")


def _failed(gates: Sequence[Mapping[str, Any]]) -> str:
    """Rule and value of every failed gate; empty when all passed."""
    return "; ".join(f"{gate['rule']}: got {_show(gate['value'])}" for gate in gates if not gate["passed"])


def _against_row(name: str, compared: Mapping[str, Outcomes], pairs: Sequence[Pair], reference: str) -> Verdict:
    pair = next(pair for pair in pairs if {pair.a, pair.b} == {name, reference})
    found = pair.metrics[DECISION_METRIC]
    sign = 1.0 if pair.a == name else -1.0
    low, high = sorted((sign * found.ci[0], sign * found.ci[1]))
    numbers = (
        f"R@5 {_pc(compared[name].mean(DECISION_METRIC))} against {reference} "
        f"{_pc(compared[reference].mean(DECISION_METRIC))} %: difference {_points(sign * found.difference)} points "
        f"({_points(low)} to {_points(high)}), Holm p {found.p_holm:.2g}, "
        f"detectable {100 * found.minimum_detectable:.1f}"
    )
    word: Word = "TIE" if pair.better is None else "PRODUCTION READY" if pair.better == name else "SUCCESS"
    return Verdict(word, numbers)


def _against_number(outcome: Outcomes, reference: float) -> Verdict:
    """A published value has no per-query outcomes: the variant's own interval must lie on one side of it."""
    low, high = intervals(outcome, (DECISION_METRIC,))[DECISION_METRIC]
    numbers = (
        f"R@5 {_pc(outcome.mean(DECISION_METRIC))} % ({_pc(low)} to {_pc(high)}) against the given {_pc(reference)} %"
    )
    word: Word = "PRODUCTION READY" if low >= reference else "SUCCESS" if high < reference else "TIE"
    return Verdict(word, numbers)


def _best(tied: Sequence[Row]) -> str | None:
    """Apply TIE_RULE to the leading tie group."""
    if not tied:
        return None
    fastest = min((_p95(row) for row in tied), key=lambda bounds: bounds[1])
    as_fast = [row for row in tied if _p95(row)[0] <= fastest[2]]
    chosen = min(as_fast, key=lambda row: (_or_worst(row.get("params")), -(row.get(DECISION_METRIC) or 0.0)))
    return str(chosen["variant"])


def _p95(row: Row) -> tuple[float, float, float]:
    """Lower end, value and upper end of the search's P95; a row without it counts as the slowest."""
    value = _or_worst(row.get("p95_ms"))
    low, high = (row.get("ci") or {}).get("p95_ms") or (value, value)
    return (_or_worst(low), value, _or_worst(high))


def _or_worst(value: float | None) -> float:
    return float("inf") if value is None or np.isnan(value) else float(value)


def _headline(best: str | None, groups: Mapping[str, int], verdicts: Mapping[str, Verdict]) -> str:
    if best is None:
        return "No variant survived."
    tied = [name for name, group in groups.items() if group == 1 and name != best]
    found = verdicts[best]
    how = f" Tied with {', '.join(tied)}; {TIE_RULE}." if tied else ""
    return f"{found.word}: {found.why}.{how}"


def _show(value: Any) -> str:
    return "nothing" if value is None else f"{value:.3g}" if isinstance(value, float | int) else str(value)


def _pc(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
