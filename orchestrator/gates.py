"""What ends a trial or lets it go on: gates on retrieval metrics and early stopping. Pure: no Ray, no files.

The rules of a gate are text, see `evaluation.measures.rules`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.ending import Ending, ending_of
from evaluation.measures.rules import Metrics, Rule, RuleCheck, check_rule

Action = Literal["continue", "warn"] | Ending


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
class TrialDecision:
    """One line of decisions.jsonl, less its time and variant."""

    epoch: int
    rule: str
    value: float | None
    limit: float | None
    passed: bool
    action: Action
    reason: str

    @property
    def ending(self) -> Ending | None:
        """Return how the trial ends by this decision; None where it goes on."""
        return ending_of(self.action)

    @property
    def margin(self) -> float | None:
        """Return how far a gate's metric is on the good side of its limit; None where no gate was held against one."""
        sign = {">=": 1.0, "<=": -1.0}.get("".join(self.rule.split()[1:2]))
        if sign is None or self.value is None or self.limit is None:
            return None
        return sign * (self.value - self.limit)


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

    The judge in the driver holds them, and nobody else: a trial is told what they say.
    """

    epochs: int
    gates: tuple[Gate, ...]
    early_stopping: EarlyStopping | None
    baselines: Mapping[str, Metrics]
    on_marginal: Literal["continue", "prune"] = "continue"
    mode: Literal["enforce", "shadow"] = "enforce"
    gated: bool = True

    def decide(self, history: Sequence[Epoch]) -> list[TrialDecision]:
        """Return the decisions that the last epoch of `history` calls for, the ending one (if any) last."""
        last = history[-1]
        if last.diverged is not None:
            return [ended(Ending.DIVERGED, last.epoch, "loss is finite", last.diverged)]
        decisions = self._decide_gates(last)
        if any(decision.ending for decision in decisions):
            return decisions
        if last.epoch >= self.epochs:
            return [*decisions, ended(Ending.FINISHED, last.epoch, f"epoch == {self.epochs}", "ran all its epochs")]
        return [*decisions, *self._decide_early_stopping(history)]

    def latency_fails(self, epoch: Epoch) -> bool:
        """Return whether a rule of this epoch's gate on the latency fails."""
        gate = self._gate_of(epoch)
        rules = (*gate.prune_unless, *gate.continue_if) if gate is not None else ()
        checks = [check_rule(rule, epoch.smoke or {}, self.baselines) for rule in rules if rule.metric == "p95_ms"]
        return any(not check.passed for check in checks)

    def _gate_of(self, epoch: Epoch) -> Gate | None:
        return next((gate for gate in self.gates if gate.epoch == epoch.epoch), None) if self.gated else None

    def _decide_gates(self, last: Epoch) -> list[TrialDecision]:
        gate = self._gate_of(last)
        if gate is None:
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

    def _gate_decision(self, epoch: int, check: RuleCheck, *, prune: bool) -> TrialDecision:
        action: Action
        if check.passed:
            action, reason = "continue", "passed"
        elif not prune:
            action, reason = "warn", f"marginal: {check.describe()}"
        elif self.mode == "shadow":
            action, reason = "warn", f"would prune (shadow): {check.describe()}"
        else:
            action, reason = Ending.PRUNED, check.describe()
        return TrialDecision(
            epoch=epoch,
            rule=check.rule,
            value=check.value,
            limit=check.limit,
            passed=check.passed,
            action=action,
            reason=reason,
        )

    def _decide_early_stopping(self, history: Sequence[Epoch]) -> list[TrialDecision]:
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
            TrialDecision(
                epoch=history[-1].epoch,
                rule=f"{rule.metric} improves within {rule.patience} epochs",
                value=history[-1].metrics.get(rule.metric),
                limit=value,
                passed=False,
                action=Ending.EARLY_STOPPED,
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


def best_score(history: Sequence[Epoch], rule: EarlyStopping) -> float | None:
    """Return the metric of the best epoch, signed so that more is better; None where there is none."""
    score = best_epoch(history, rule).metrics.get(rule.metric) if history else None
    return score if score is None or rule.mode == "max" else -score


def halve(scores: Mapping[str, float | None]) -> set[str]:
    """Return the worse half of the trials that compete, by their scores (higher is better): n // 2 of n.

    A score that is missing or no number is the worst. Of equals the later one in the order given is worse.
    """
    names = list(scores)

    def worth(name: str) -> tuple[float, int]:
        score = scores[name]
        return (-math.inf if score is None or math.isnan(score) else score, -names.index(name))

    return set(sorted(names, key=worth)[: len(names) // 2])


def ended(ending: Ending, epoch: int, rule: str, reason: str) -> TrialDecision:
    """Return the decision that ends a trial without a measured value."""
    passed = ending is Ending.FINISHED
    return TrialDecision(epoch=epoch, rule=rule, value=None, limit=None, passed=passed, action=ending, reason=reason)
