"""The decision in sentences: the headline, which is true in every case, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.measures.metrics import NOVEL
from evaluation.measures.writing import per_cent, points
from evaluation.statistics.evidence import Evidence, Word, failed_gates

TIE_RULE = (
    "among ties fewer parameters, then the lower P95 of the whole answer (equal where the 95 % intervals overlap), "
    "then novel R@5"
)
"""Parameters first: a latency is also the machine's load of that moment, which must not choose between equals."""
LOOK_UP = "nearest_context"


def headline(evidence: Evidence, words: Mapping[str, Word], best: str | None, tied: Sequence[str]) -> str:
    """Return what the run found, in a sentence."""
    if best is None:
        return _without_best(evidence, words)
    others = [name for name in tied if name != best]
    how = f". Tied with {_listed(others)}; {TIE_RULE}" if others else ""
    return f"{best} is the best variant{_as_a_line(evidence, best)}{_against(evidence, best, words[best])}{how}"


def _as_a_line(evidence: Evidence, best: str) -> str:
    if best in untrained(evidence):
        return ", as the fitted line that it starts from"
    return ", by its direct path alone" if best in without_layers(evidence) else ""


def untrained(evidence: Evidence) -> list[str]:
    """Return the survivors whose best weights are those before the first step: they are the line they start from."""
    return [name for name in evidence.survivors if evidence.row(name).get("best_epoch") == 0]


def without_layers(evidence: Evidence) -> list[str]:
    """Return the survivors of whose layers validation kept nothing: they are a line, corrected by a direct path."""
    return [name for name in evidence.survivors if evidence.row(name).get("val_share") == 0.0]


def _against(evidence: Evidence, best: str, word: Word) -> str:
    value, reference = per_cent(evidence.value(best)), evidence.reference
    if reference is None:
        return f"; there is no baseline to hold it against (novel R@5 {value} %)"
    if isinstance(reference, str):
        found, better = evidence.against_reference(best)
        ahead, ends = better == best, " to ".join(map(per_cent, found.ci))
        said = f", ahead of {reference} by {per_cent(found.difference)} points ({ends}) of novel R@5"
        numbers = f"(novel R@5 {value} against {per_cent(evidence.value(reference))} %)"
    else:
        interval = evidence.own_interval(best)
        ahead, numbers = interval[0] >= reference, f"(novel R@5 {value} %, {' to '.join(map(per_cent, interval))})"
        said = f", above {_name(evidence)} {numbers}"
    if not ahead:
        return f"; it cannot be told from {_name(evidence)} {numbers}"
    missing = failed_gates(evidence.row(best), stage="ready") if word == "TIE" else ""
    return f"{said}, but not ready: {missing}" if missing else said


def _without_best(evidence: Evidence, words: Mapping[str, Word]) -> str:
    leader, survivors = evidence.leader(), evidence.survivors
    if not survivors:
        return f"No variant survived; {leader} is the best row" if leader else "No variant survived"
    if leader is None:
        return "No query is novel, so nothing can be called best"
    behind = [name for name in survivors if words[name] == "BEHIND"]
    rejected = [name for name in survivors if words[name] == "REJECT"]
    if not behind:
        return f"{rejected[0]} failed a final gate and was nearest; nothing is best"
    if rejected:
        said = f"{_listed(rejected)} failed a final gate, {_listed(behind)} {_is(behind)} behind {_name(evidence)}"
        return f"Nothing is best: {said}"
    every = "every variant" if len(survivors) == len(evidence.variants) else "every variant that survived"
    if not isinstance(evidence.reference, str):
        return f"{behind[0]} was nearest; {every} is behind {_name(evidence)}"
    return f"{leader} is the best row; {every} is behind {'it' if leader == evidence.reference else _name(evidence)}"


def _name(evidence: Evidence) -> str:
    reference = evidence.reference
    return f"the given {per_cent(reference)} %" if isinstance(reference, int | float) else str(reference)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def advice(evidence: Evidence, words: Mapping[str, Word], best: str | None) -> list[str]:
    """Return sentences of what to try next: nothing where a variant is ready and the corpus does not repeat itself."""
    found = [*_repeats(evidence), *_learned_nothing(evidence)]
    if best is not None and words[best] == "PRODUCTION READY":
        return found
    nearest = best or next(iter(evidence.survivors), None)
    if nearest is not None and isinstance(evidence.reference, str):
        found += _more_articles(evidence, nearest, evidence.reference)
    return [*found, _smaller_step(evidence, nearest), "Try a longer context (data.context_length)."]


def _learned_nothing(evidence: Evidence) -> list[str]:
    found = []
    if names := untrained(evidence):
        found.append(
            f"Training added nothing to {_listed(names)}: best on validation before the first step, when a variant is "
            "the fitted line itself."
        )
    if names := without_layers(evidence):
        found.append(
            f"The layers added nothing to {_listed(names)}: best on validation by the direct path alone, a line."
        )
    return found


def _more_articles(evidence: Evidence, nearest: str, reference: str) -> list[str]:
    difference, better = evidence.against_reference(nearest)
    if better is not None or not difference.minimum_detectable > abs(difference.difference):
        return []
    units = "articles" if evidence.queries.unit == "article" else "queries"
    shown, seen = per_cent(difference.minimum_detectable), points(difference.difference)
    return [
        f"Use more {units}: these {evidence.queries.num_units(NOVEL)} reveal a difference of {shown} points, "
        f"and that of {nearest} from {reference} is {seen}."
    ]


def _smaller_step(evidence: Evidence, nearest: str | None) -> str:
    row = evidence.row(nearest) if nearest is not None else {}
    epoch, epochs = row.get("best_epoch"), row.get("epochs")
    early = f": {nearest} was best at epoch {epoch} of {epochs}" if epoch and epochs and 2 * epoch <= epochs else ""
    return f"Try a smaller step (training.optimizer.lr){early}."


def _repeats(evidence: Evidence) -> list[str]:
    if evidence.leader("r@5") != LOOK_UP or evidence.leader() == LOOK_UP:
        return []
    return [
        f"The corpus repeats itself: {LOOK_UP}, a look-up without a model, leads over all queries "
        f"(R@5 {per_cent(evidence.value(LOOK_UP, 'r@5'))} %) but not over novel ones; drop the repeats (data.repeats)."
    ]
