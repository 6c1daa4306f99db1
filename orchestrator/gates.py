"""Pure rules that end a trial or let it go on: gates on retrieval metrics and early stopping. No Ray, no files.

A rule is text, `r@5 >= 0.35` or, relative to a baseline measured on the same queries and index,
`r@5 >= 1.2 * baseline.last_vector`. A missing or NaN value fails its rule: nothing passes for want of evidence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Metrics = Mapping[str, float | None]
Action = Literal["continue", "warn", "prune", "early_stop", "diverge", "finish", "fail", "interrupt"]
ENDING: frozenset[str] = frozenset({"prune", "early_stop", "diverge", "finish", "fail", "interrupt"})

_RULE = re.compile(
    r"^\s*(?P<metric>(?:exclude_context\.)?[a-z0-9_]+(?:@[0-9]+)?)\s*(?P<op>>=|<=)\s*"
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
    """Parse one rule; ValueError says what a rule looks like."""
    match = _RULE.match(text)
    number, baseline = (match["number"], match["baseline"]) if match else (None, None)
    well_formed = match and (number or baseline) and bool(match["times"]) == bool(number and baseline)
    try:
        factor = float(number) if number else 1.0
    except ValueError:
        well_formed = None
    if not match or not well_formed:
        raise ValueError(
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """The rules of one smoke epoch.

    `continue_if`: all pass -> the trial goes on. `prune_unless`: one fails -> it is pruned.
    In between it is marginal, and `on_marginal` decides.
    """

    epoch: int
    continue_if: tuple[Rule, ...] = ()
    prune_unless: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStopping:
    """Stop when `metric` has not improved by more than `min_delta` for `patience` epochs."""

    metric: str
    mode: Literal["max", "min"]
    patience: int
    min_delta: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One line of decisions.jsonl, less its time and variant."""

    epoch: int
    rule: str
    value: float | None
    limit: float | None
    passed: bool
    action: Action
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What the rules need of one epoch: the training metrics and, at smoke epochs, the retrieval metrics."""

    epoch: int
    metrics: Metrics
    smoke: Metrics | None = None
    diverged: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRules:
    """Everything that may end a trial before its last epoch, with the baselines' values filled in.

    The scheduler and the trial's worker hold equal copies: the worker returns of its own accord where the scheduler
    ends the trial, since a worker that Tune kills keeps its placement group (seen with Ray 2.60).
    """

    epochs: int
    gates: tuple[Gate, ...]
    early_stopping: EarlyStopping | None
    baselines: Mapping[str, Metrics]
    on_marginal: Literal["continue", "prune"] = "continue"
    mode: Literal["enforce", "shadow"] = "enforce"
    gated: bool = True

    def decide(self, history: Sequence[Epoch]) -> list[Decision]:
        """Return the decisions that the last epoch of `history` calls for, the ending one (if any) last."""
        last = history[-1]
        if last.diverged is not None:
            return [_ending(last.epoch, "loss is finite", "diverge", last.diverged)]
        decisions = self._decide_gates(last)
        if any(decision.action in ENDING for decision in decisions):
            return decisions
        if last.epoch >= self.epochs:
            return [*decisions, _ending(last.epoch, f"epoch == {self.epochs}", "finish", "ran all its epochs")]
        return [*decisions, *self._decide_early_stopping(history)]

    def ends(self, history: Sequence[Epoch]) -> bool:
        """Return whether the trial ends after the last epoch of `history`."""
        return bool(history) and any(decision.action in ENDING for decision in self.decide(history))

    def _decide_gates(self, last: Epoch) -> list[Decision]:
        gate = next((gate for gate in self.gates if gate.epoch == last.epoch), None)
        if gate is None or not self.gated:
            return []
        smoke = last.smoke or {}
        floors = [check_rule(rule, smoke, self.baselines) for rule in gate.prune_unless]
        targets = [check_rule(rule, smoke, self.baselines) for rule in gate.continue_if]
        checks = [*floors, *targets]
        failed_floors = [check for check in floors if not check.passed]
        failed = [check for check in checks if not check.passed]
        unmeasured = [check for check in checks if check.value is None or math.isnan(check.value)]
        prune = bool(failed_floors or unmeasured) or (bool(failed) and self.on_marginal == "prune")
        # The failed checks come last, so that the line which ends the trial is the last one.
        ordered = [check for check in checks if check.passed] + failed
        return [self._gate_decision(last.epoch, check, prune=prune) for check in ordered]

    def _gate_decision(self, epoch: int, check: RuleCheck, *, prune: bool) -> Decision:
        action: Action
        if check.passed:
            action, reason = "continue", "passed"
        elif not prune:
            action, reason = "warn", f"marginal: {check.describe()}"
        elif self.mode == "shadow":
            action, reason = "warn", f"would prune (shadow): {check.describe()}"
        else:
            action, reason = "prune", check.describe()
        return Decision(
            epoch=epoch,
            rule=check.rule,
            value=check.value,
            limit=check.limit,
            passed=check.passed,
            action=action,
            reason=reason,
        )

    def _decide_early_stopping(self, history: Sequence[Epoch]) -> list[Decision]:
        rule = self.early_stopping
        if rule is None:
            return []
        best = best_epoch(history, rule)
        waited = history[-1].epoch - best.epoch
        if waited < rule.patience:
            return []
        value = best.metrics.get(rule.metric)
        shown = "missing" if value is None else f"{value:.4g}"
        return [
            Decision(
                epoch=history[-1].epoch,
                rule=f"{rule.metric} improves within {rule.patience} epochs",
                value=history[-1].metrics.get(rule.metric),
                limit=value,
                passed=False,
                action="early_stop",
                reason=f"best {rule.metric} {shown} at epoch {best.epoch}",
            )
        ]


def best_epoch(history: Sequence[Epoch], rule: EarlyStopping) -> Epoch:
    """Return the epoch that last improved `rule.metric` by more than `min_delta`; the first when none is a number."""
    sign = 1.0 if rule.mode == "max" else -1.0
    best, best_value = history[0], -math.inf
    for record in history:
        value = record.metrics.get(rule.metric)
        if value is not None and sign * value > best_value + rule.min_delta:
            best, best_value = record, sign * value
    return best


def _ending(epoch: int, rule: str, action: Action, reason: str) -> Decision:
    return Decision(
        epoch=epoch, rule=rule, value=None, limit=None, passed=action == "finish", action=action, reason=reason
    )
