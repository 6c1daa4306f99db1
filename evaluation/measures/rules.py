"""Rules on metrics as text: `r@5 >= 0.35`, or `r@5 >= 1.2 * baseline.last_vector`, a factor times a baseline on the
same queries and index. A missing or NaN value fails its rule: nothing passes for want of evidence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from data.errors import UserError
from evaluation.measures.metrics import PREFIXES

Metrics = Mapping[str, float | None]

# Gates of the original protocol, by epoch; None: after training.
ORIGINAL_GATES: dict[int | None, tuple[str, ...]] = {
    4: ("contain@50 >= 0.55", "eff@5 >= 0.65", "r@5 >= 0.35", "p95_ms <= 2.0"),
    None: ("contain@50 >= 0.60", "eff@5 >= 0.68", "r@5 >= 0.40", "p95_ms <= 1.45"),
}

_RULE = re.compile(
    rf"^\s*(?P<metric>(?:{'|'.join(map(re.escape, PREFIXES))})?"
    r"[a-z0-9_]+(?:@[0-9]+)?)\s*(?P<op>>=|<=)\s*"
    r"(?:(?P<number>[-+0-9.eE]+)\s*(?P<times>\*)?\s*)?(?:baseline\.(?P<baseline>\w+))?\s*$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """`metric op factor [* baseline]`; the text it was parsed from is kept for records."""

    text: str
    metric: str
    op: Literal[">=", "<="]
    factor: float
    baseline: str | None

    def limit(self, baselines: Mapping[str, Metrics]) -> float:
        """Return the number to compare with; NaN when the baseline's metric is not known."""
        if self.baseline is None:
            return self.factor
        reference = baselines.get(self.baseline, {}).get(self.metric)
        return math.nan if reference is None else self.factor * reference


def parse_rule(text: str) -> Rule:
    """Parse one rule; UserError says what a rule looks like."""
    match = _RULE.match(text)
    number, baseline = (match["number"], match["baseline"]) if match else (None, None)
    well_formed = match and (number or baseline) and bool(match["times"]) == bool(number and baseline)
    try:
        factor = float(number) if number else 1.0
    except ValueError:
        well_formed = None
    if not match or not well_formed:
        raise UserError(
            f"{text!r}: expected 'metric >= number' or 'metric >= factor * baseline.name', got neither; "
            "e.g. 'r@5 >= 1.2 * baseline.last_vector'"
        )
    op: Literal[">=", "<="] = ">=" if match["op"] == ">=" else "<="
    return Rule(text=text.strip(), metric=match["metric"], op=op, factor=factor, baseline=baseline)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleCheck:
    """One rule held against one value; `passed` is False for a missing or NaN value or limit."""

    rule: str
    metric: str
    value: float | None
    limit: float
    passed: bool

    def describe(self) -> str:
        """Return `r@5 0.0812 (limit >= 0.1128, failed)`."""
        value = "missing" if self.value is None else f"{self.value:.4g}"
        op = ">=" if ">=" in self.rule else "<="
        return f"{self.metric} {value} (limit {op} {self.limit:.4g}, {'passed' if self.passed else 'failed'})"


def check_rule(rule: Rule, metrics: Metrics, baselines: Mapping[str, Metrics]) -> RuleCheck:
    """Hold one rule against measured metrics. Comparisons with NaN are False, so NaN fails."""
    value = metrics.get(rule.metric)
    limit = rule.limit(baselines)
    passed = value is not None and (value >= limit if rule.op == ">=" else value <= limit)
    return RuleCheck(rule=rule.text, metric=rule.metric, value=value, limit=limit, passed=passed)
