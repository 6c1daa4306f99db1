"""From rows and their outcomes to the decision: which variant is best, how surely, and what each one is worth.

A variant's verdict, from its final gates and its novel R@5 against the reference:

    REJECT            it did not survive, a final gate failed, or no query is novel
    PRODUCTION READY  all gates pass, those of readiness too, and it is ahead of the reference beyond chance
    TIE               all final gates pass, and it cannot be told from the reference; or there is none; or it is ahead
                      and a gate of readiness failed
    BEHIND            all final gates pass, and it is behind the reference beyond chance
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.measures.metrics import DECISION_METRIC
from evaluation.measures.writing import gain_bounds, per_cent, points
from evaluation.results import Row
from evaluation.statistics.evidence import BEST_BASELINE, Evidence, Word, failed_gates, gather
from evaluation.statistics.outcomes import COMPARED_METRICS, Outcomes, Queries
from evaluation.statistics.resampling import NUM_RESAMPLES
from evaluation.statistics.sentences import advice, headline
from evaluation.statistics.significance import Pair, sample_warnings, tie_groups


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
    reference: str | float | None  # the row, or the number, that the verdicts hold the variants against
    leader: str | None  # the row with the highest novel R@5, of any kind
    advice: Sequence[str]  # what to try next
    warnings: Sequence[str]  # why the figures may say less than they seem to

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
    queries: Queries,
    *,
    reference: str | float | None = BEST_BASELINE,
    names: Sequence[str] = COMPARED_METRICS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Decision:
    """Give every variant its verdict, and name the best one.

    The best of several baselines is chosen by the same queries that it is compared on. That favours the baseline, so
    being ahead of it is only harder, and a claim of it stays honest.

    Args:
        rows: of results.json, with `gates`, dicts of rule, value, limit, passed. A gate with `stage: ready` is a
            further condition of PRODUCTION READY and rejects nobody. Rows of kind baseline cannot be best.
        outcomes: per-query outcomes of every evaluated row by name, all on the same queries.
        queries: what is known of these queries.
        reference: `best_baseline`, the baseline with the highest novel R@5, of equal ones the smallest; the name of a
            row; a published share 0..1; or None. A row without outcomes is no reference.
        names: metrics of the pairs, with the decision metric among them.
        num_resamples: of the bootstrap.
        seed: of all resampling.
    """
    evidence = gather(rows, outcomes, queries, reference=reference, names=names, num_resamples=num_resamples, seed=seed)
    verdicts = {row["variant"]: _verdict(row, evidence) for row in evidence.variants}
    words = {name: verdict.word for name, verdict in verdicts.items()}
    accepted = [name for name in evidence.survivors if words[name] != "REJECT"]
    tied = _leading(accepted, words, evidence.pairs)
    best = _best_of([evidence.row(name) for name in tied])
    return Decision(
        best=best,
        headline=headline(evidence, words, best, tied),
        verdicts=verdicts,
        tie_group=tie_groups(accepted, evidence.pairs),
        pairs=evidence.pairs,
        reference=evidence.reference,
        leader=evidence.leader(),
        advice=advice(evidence, words, best),
        warnings=sample_warnings(queries),
    )


def _verdict(row: Row, evidence: Evidence) -> Verdict:
    name = row["variant"]
    if not evidence.is_evaluated(row):
        return Verdict("REJECT", f"{row.get('status', 'not evaluated')}: {row.get('reason') or 'no final evaluation'}")
    failed = failed_gates(row, stage="final")
    if failed:
        return Verdict("REJECT", failed)
    if math.isnan(evidence.value(name)):
        return Verdict("REJECT", "no query is novel, so novel R@5 is not defined")
    num = len([gate for gate in row.get("gates") or [] if gate.get("stage") != "ready"])
    passed = f"{num} of {num} final gates passed" if num else "no final gates"
    word, numbers = _held_against(name, evidence)
    num_seeds = evidence.outcomes[name].num_seeds
    numbers += f"; {num_seeds} seeds" if num_seeds > 1 else "; one seed"
    not_ready = failed_gates(row, stage="ready")
    if word == "PRODUCTION READY" and not_ready:
        return Verdict("TIE", f"{passed}; ahead but not ready: {not_ready}; {numbers}")
    return Verdict(word, f"{passed}; {numbers}")


def _held_against(name: str, evidence: Evidence) -> tuple[Word, str]:
    value, reference = per_cent(evidence.value(name)), evidence.reference
    if reference is None:
        return "TIE", f"novel R@5 {value} %, no reference to hold it against"
    if not isinstance(reference, str):
        # A published value has no per-query outcomes: the variant's own interval must lie on one side of it.
        low, high = evidence.own_interval(name)
        numbers = f"novel R@5 {value} % ({per_cent(low)} to {per_cent(high)}) against the given {per_cent(reference)} %"
        return "PRODUCTION READY" if low >= reference else "BEHIND" if high < reference else "TIE", numbers
    found, better = evidence.against_reference(name)
    numbers = (
        f"novel R@5 {value} against {reference} {per_cent(evidence.value(reference))} %: difference "
        f"{points(found.difference)} points ({gain_bounds(found.ci, DECISION_METRIC)}), "
        f"Holm p {found.p_holm:.2g}, detectable {per_cent(found.minimum_detectable)}"
    )
    return "TIE" if better is None else "PRODUCTION READY" if better == name else "BEHIND", numbers


def _leading(accepted: Sequence[str], words: Mapping[str, Word], pairs: Sequence[Pair]) -> list[str]:
    """The first of the ready variants, else of the tied ones, with those of the same word that are tied with it."""
    for word in ("PRODUCTION READY", "TIE"):
        candidates = [name for name in accepted if words[name] == word]
        if candidates:
            groups = tie_groups(candidates, pairs)
            return [name for name in candidates if groups[name] == 1]
    return []


def _best_of(tied: Sequence[Row]) -> str | None:
    """Apply `sentences.TIE_RULE` to rows, of which the highest novel R@5 comes first."""
    if not tied:
        return None
    fewest = min(_or_worst(row.get("params")) for row in tied)
    smallest = [row for row in tied if _or_worst(row.get("params")) == fewest]
    fastest = min((_p95(row) for row in smallest), key=lambda bounds: bounds[1])
    return str(next(row for row in smallest if _p95(row)[0] <= fastest[2])["variant"])


def _p95(row: Row) -> tuple[float, float, float]:
    """Lower end, value and upper end of the whole answer's P95; a row without it counts as the slowest."""
    value = _or_worst(row.get("answer_p95_ms"))
    low, high = (row.get("ci") or {}).get("answer_p95_ms") or (value, value)
    return (_or_worst(low), value, _or_worst(high))


def _or_worst(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else float(value)
