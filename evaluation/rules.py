"""Gate rules as text, for the command lines: `r@5 >= 0.35`, `p95_ms <= 2.0`, `r@5 >= 1.2 * baseline.last_vector`."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.metrics import metric

_RULE = re.compile(
    r"\s*(?P<metric>[a-z0-9_@.]+)\s*(?P<op>>=|<=)\s*(?P<number>[0-9.eE+-]+)?(?:\s*\*\s*)?(?:baseline\.(?P<of>\w+))?\s*"
)

# Gates of the original protocol, by epoch; None: after training.
ORIGINAL_GATES: dict[int | None, tuple[str, ...]] = {
    4: ("contain@50 >= 0.55", "eff@5 >= 0.65", "r@5 >= 0.35", "p95_ms <= 2.0"),
    None: ("contain@50 >= 0.60", "eff@5 >= 0.68", "r@5 >= 0.40", "p95_ms <= 1.45"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A metric, a direction and a limit, which may be a multiple of a baseline's figure."""

    text: str
    metric: str
    at_least: bool
    factor: float
    baseline: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule held against a value; a missing or NaN value or limit fails."""

    rule: str
    metric: str
    value: float
    limit: float
    passed: bool


def parse(text: str) -> Rule:
    """Read a rule.

    Raises:
        ValueError: in one line, when it is not a rule or names no metric.
    """
    found = _RULE.fullmatch(text)
    if found is None or not (found["number"] or found["of"]):
        raise ValueError(
            f"gate: expected 'metric >= number' or 'metric >= factor * baseline.name', got {text!r}; mend it"
        )
    metric(found["metric"])
    factor = float(found["number"]) if found["number"] else 1.0
    return Rule(text.strip(), found["metric"], found["op"] == ">=", factor, found["of"])


def judge(
    rules: Sequence[Rule], metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]
) -> list[Judged]:
    """Hold rules against measured metrics; comparisons with NaN are false, so NaN fails."""
    judged = []
    for rule in rules:
        value = metrics.get(rule.metric, math.nan)
        of = baselines.get(rule.baseline, {}).get(rule.metric, math.nan) if rule.baseline else 1.0
        limit = rule.factor * of
        judged.append(Judged(rule.text, rule.metric, value, limit, value >= limit if rule.at_least else value <= limit))
    return judged
