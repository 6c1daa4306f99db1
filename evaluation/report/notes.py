"""The sentences around the table: warnings above it, and below it how its figures are to be read."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.measures.metrics import EXACT
from evaluation.report.columns import number, per_cent
from evaluation.results import Row

Results = Mapping[str, Any]
SAID = frozenset(
    ("warnings", "orders", "unit", "n_articles", "n_novel", "novel_below", "duplicate_share", "reranked")
) | {"repeats_dropped", "training_seeds", "own_metrics"}  # protocol keys that the notes turn into sentences


def warnings(results: Results) -> list[str]:
    """What a reader must know before any figure; stands above the table."""
    protocol = results["protocol"]
    found = [str(one) for one in protocol.get("warnings") or []]
    if (orders := protocol.get("orders") or "equal") != "equal":
        found.append(f"The trials did not see the same data: {orders}.")
    if waived := protocol.get("waived"):
        found.append(f"Waived preflight checks: {', '.join(map(str, waived))}.")
    return found


def reading_notes(results: Results, compared: Sequence[Row]) -> list[str]:
    """What the columns of the first table mean."""
    protocol = results["protocol"]
    notes = []
    if (num_novel := protocol.get("n_novel")) is not None:
        total = max((int(row.get("n_queries") or 0) for row in compared), default=0)
        notes.append(
            f"Novel: the {num_novel:,} of {total:,} final queries whose target is below cosine "
            f"{protocol.get('novel_below', 0.9)} to every chunk of a training window. Novel R@5 decides and sorts the "
            "rows; columns without the word novel count all queries."
        )
    reranked = protocol.get("reranked")
    path = "model, search and reranker" if reranked else "model and search"
    switched = "" if reranked is None else " Results are reranked." if reranked else " Nothing is reranked."
    found = [
        *notes,
        _brackets(protocol),
        "No ctx: without the query's own context chunks among the results. Answer P95: one query at a time on one "
        f"thread, through {path}.{switched}",
        _duplicates(results),
    ]
    return [note for note in found if note]


def _brackets(protocol: Mapping[str, Any]) -> str:
    if protocol.get("unit") == "query":
        return "Brackets: 95 % intervals over queries. No articles are known, so every query counts as independent."
    num, seeds = protocol.get("n_articles"), protocol.get("training_seeds") or []
    articles = f"articles{f' ({num:,} of them)' if num is not None else ''}"
    if len(seeds) > 1:
        means = f"Figures of trained rows are means over the seeds {', '.join(map(str, seeds))}."
        return f"{means} Brackets: 95 % intervals over {articles} and seeds."
    alone = " Trained under one seed: what another one would change is not in them." if seeds else ""
    return f"Brackets: 95 % intervals over {articles}.{alone}"


def further_notes(results: Results, compared: Sequence[Row], ended: Sequence[Row]) -> list[str]:
    """What the other tables mean, and what was done to the data."""
    protocol = results["protocol"]
    notes = []
    if any("tie_group" in row for row in compared):
        notes.append("Tie: variants with the same number cannot be told apart on novel R@5 (test over articles, Holm).")
    if results.get("pairs"):
        notes.append("Detectable: the smallest true difference that these queries reveal with power 80 %, in points.")
    notes.append(
        "More figures: over all queries. Copied: over those that are not novel. Exact: rows with the target's vector "
        "do not count as the target."
    )
    if ended:
        notes.append("Figures of what ended early are those of its last smoke evaluation, on other queries.")
    if chosen := [f"{row['variant']} {shown(row['chosen'])}" for row in compared if row.get("chosen")]:
        notes.append(f"Chosen on validation windows: {'; '.join(chosen)}.")
    budget = (protocol.get("search") or {}).get("budget") or {}
    notes += [_spent(results, name, float(amount)) for name, amount in budget.items() if amount is not None]
    if protocol.get("orders") == "equal":
        trials = "All trials of a seed" if len(protocol.get("training_seeds") or []) > 1 else "All trials"
        notes.append(f"{trials} saw the same windows in the same order: their digests are equal.")
    if (dropped := protocol.get("repeats_dropped")) is not None:
        notes.append(f"Repeated chunks that were dropped before windows were cut: {dropped:,}.")
    if tried := (protocol.get("index") or {}).get("tried"):
        notes.append(f"Index chosen from: {'; '.join(shown(one) for one in tried)}")
    return [*notes, f"Protocol: {protocol_line(protocol)}"]


_COUNTED = {"flops": ("flops", 1e12, "TFLOP of training"), "seconds": ("train_s", 1.0, "s of training")}
"""By the budget's name: the key of a trial of a search, the unit in which it is shown, and that unit's name."""


def _spent(results: Results, name: str, budget: float) -> str:
    """What each variant's search was given and what its trials used; rules that end trials early leave a rest."""
    key, unit, word = _COUNTED[name]
    used = {row["variant"]: sum(one[key] for one in row["search"]) for row in results["rows"] if row.get("search")}
    shares = ", ".join(f"{name} {spent / unit:,.2f} ({100 * spent / budget:.0f} %)" for name, spent in used.items())
    return f"The search of each variant was given {budget / unit:,.2f} {word}; used: {shares}."


def _duplicates(results: Results) -> str:
    share = number(results["protocol"], "duplicate_share")
    if not share:
        return ""
    named = dict.fromkeys([results.get("leader"), results.get("best")])
    exact = [f"{row['variant']} {per_cent(EXACT + 'r@5')(row)} %" for row in results["rows"] if row["variant"] in named]
    less = f" Without that R@5 is: {', '.join(exact)}." if exact else ""
    return (
        f"{100 * share:.1f} % of the final queries have a target with an exact copy, which counts as the target.{less}"
    )


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """`key value; key value; ...`, nested settings in brackets: what was measured, on what, with what."""
    return "; ".join(f"{key} {shown(value)}" for key, value in told(protocol).items())


def told(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol without what is empty and what the notes say."""
    return {key: value for key, value in protocol.items() if key not in SAID and value not in (None, "", [], {})}


def shown(value: Any) -> str:
    """A value of the protocol as text."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {shown(inner)}" for key, inner in value.items() if key != "tried") + ")"
    if isinstance(value, list | tuple):
        return ", ".join(shown(inner) for inner in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
