"""Rules that end a trial, held against numbers worked out by hand."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from evaluation.measures.rules import parse_rule
from orchestrator.gates import EarlyStopping, Epoch, Gate, StopRules, TrialDecision, best_epoch

NAN = math.nan
BASELINES = {"last_vector": {"r@5": 0.1, "p95_ms": 0.5}, "context_mean": {"r@5": NAN}}


def gate(epoch: int = 4, *, floors: Sequence[str] = (), targets: Sequence[str] = ()) -> Gate:
    return Gate(epoch=epoch, prune_unless=tuple(map(parse_rule, floors)), continue_if=tuple(map(parse_rule, targets)))


def rules(*gates: Gate, **changes: Any) -> StopRules:
    return StopRules(**{"epochs": 20, "gates": gates, "early_stopping": None, "baselines": BASELINES, **changes})


def at(epoch: int, **smoke: float | None) -> list[Epoch]:
    """One epoch of history; `r5` and `c50` stand for r@5 and contain@50."""
    names = {"r5": "r@5", "c50": "contain@50"}
    return [Epoch(epoch=epoch, metrics={}, smoke={names.get(key, key): value for key, value in smoke.items()})]


def scored(*values: float | None, metric: str = "val_mrr") -> list[Epoch]:
    return [Epoch(epoch=number, metrics={metric: value}) for number, value in enumerate(values, start=1)]


def ends(rules: StopRules, history: Sequence[Epoch]) -> bool:
    """Whether the rules end a trial; the line that ends it is the last one, which is where a relaunch looks for it."""
    ending = [decision.ending is not None for decision in rules.decide(history)]
    assert True not in ending or ending[-1]
    return True in ending


def actions(decisions: list[TrialDecision]) -> list[str]:
    return [decision.action for decision in decisions]


# ---- gates

SEED_GATE = gate(floors=["contain@50 >= 0.4"], targets=["contain@50 >= 0.55", "r@5 >= 0.35"])


def test_a_gate_speaks_at_its_own_epoch_only() -> None:
    assert rules(SEED_GATE).decide(at(3, r5=0.0, c50=0.0)) == []
    assert rules(SEED_GATE).decide(at(5, r5=0.0, c50=0.0)) == []


def test_a_trial_that_passes_every_rule_goes_on() -> None:
    decisions = rules(SEED_GATE).decide(at(4, r5=0.4, c50=0.6))
    assert actions(decisions) == ["continue", "continue", "continue"]
    assert all(decision.passed and decision.reason == "passed" for decision in decisions)


def test_a_trial_below_the_floor_is_pruned_by_the_last_decision() -> None:
    decisions = rules(SEED_GATE).decide(at(4, r5=0.4, c50=0.39))
    assert actions(decisions) == ["continue", "prune", "prune"]
    last = decisions[-1]
    assert (last.rule, last.value, last.limit, last.passed) == ("contain@50 >= 0.55", 0.39, 0.55, False)
    assert last.reason == "contain@50 0.39 (limit >= 0.55, failed)"


def test_a_marginal_trial_goes_on_with_a_warning() -> None:
    decisions = rules(SEED_GATE).decide(at(4, r5=0.3, c50=0.6))
    assert actions(decisions) == ["continue", "continue", "warn"]
    assert decisions[-1].reason == "marginal: r@5 0.3 (limit >= 0.35, failed)"


def test_a_marginal_trial_is_pruned_where_the_configuration_says_so() -> None:
    strict = rules(SEED_GATE, on_marginal="prune")
    assert actions(strict.decide(at(4, r5=0.3, c50=0.6))) == ["continue", "continue", "prune"]


@pytest.mark.parametrize(
    "smoke", [{"c50": 0.6}, {"c50": 0.6, "r5": None}, {"c50": 0.6, "r5": NAN}, {"r5": 0.4}, {}], ids=str
)
def test_what_was_not_measured_prunes_even_between_the_limits(smoke: dict[str, float | None]) -> None:
    assert ends(rules(SEED_GATE), at(4, **smoke))


def test_a_gate_epoch_without_a_smoke_evaluation_prunes() -> None:
    history = [Epoch(epoch=4, metrics={"r@5": 1.0, "contain@50": 1.0}, smoke=None)]
    assert ends(rules(SEED_GATE), history)


def test_a_floor_relative_to_an_unmeasured_baseline_prunes() -> None:
    assert ends(rules(gate(floors=["r@5 >= baseline.amn"])), at(4, r5=1.0))


def test_shadow_mode_records_what_it_would_prune_and_ends_nothing() -> None:
    shadow = rules(SEED_GATE, mode="shadow")
    decisions = shadow.decide(at(4, r5=0.4, c50=0.2))
    assert actions(decisions) == ["continue", "warn", "warn"]
    assert decisions[-1].reason.startswith("would prune (shadow): contain@50 0.2")
    assert not ends(shadow, at(4))


def test_the_learned_baseline_passes_no_gate() -> None:
    ungated = rules(SEED_GATE, gated=False)
    assert ungated.decide(at(4, r5=0.0, c50=0.0)) == []


# ---- the last epoch, divergence


def test_the_last_epoch_finishes_the_trial() -> None:
    (decision,) = rules(epochs=3).decide(scored(0.1, 0.2, 0.3))
    assert (decision.action, decision.epoch, decision.rule, decision.passed) == ("finish", 3, "epoch == 3", True)
    assert rules(epochs=3).decide(scored(0.1, 0.2)) == []


def test_a_gate_at_the_last_epoch_is_asked_before_the_trial_finishes() -> None:
    last = rules(gate(floors=["r@5 >= 0.2"]), epochs=4)
    assert actions(last.decide(at(4, r5=0.3))) == ["continue", "finish"]
    assert actions(last.decide(at(4, r5=0.1))) == ["prune"]


def test_a_loss_that_is_not_finite_ends_the_trial_before_any_other_rule() -> None:
    history = [Epoch(epoch=4, metrics={}, diverged="loss nan at step 3 of epoch 4")]
    (decision,) = rules(SEED_GATE, epochs=4).decide(history)
    assert (decision.action, decision.passed, decision.reason) == ("diverge", False, "loss nan at step 3 of epoch 4")


# ---- early stopping


def stopping(**changes: Any) -> EarlyStopping:
    return EarlyStopping(**{"metric": "val_mrr", "mode": "max", "patience": 2, **changes})


BEST_EPOCHS = [
    (stopping(), (0.1, 0.3, 0.2), 2),
    (stopping(), (0.3, 0.3, 0.3), 1),
    (stopping(mode="min"), (0.3, 0.1, 0.2), 2),
    (stopping(mode="min"), (-0.1, -0.2, 0.0), 2),
    # 0.12 is no improvement on 0.10 by more than 0.05; 0.16 is, although not on 0.12.
    (stopping(min_delta=0.05), (0.10, 0.12, 0.16), 3),
    (stopping(min_delta=0.05), (0.10, 0.12, 0.14), 1),
    (stopping(mode="min", min_delta=0.25), (1.0, 0.75, 0.5), 3),
    (stopping(), (NAN, 0.1, NAN), 2),
    (stopping(), (None, None, 0.2), 3),
    (stopping(), (NAN, None, NAN), 1),
]


@pytest.mark.parametrize(("rule", "values", "best"), BEST_EPOCHS)
def test_the_best_epoch_is_the_last_that_improved(
    rule: EarlyStopping, values: tuple[float | None, ...], best: int
) -> None:
    assert best_epoch(scored(*values), rule).epoch == best


@pytest.mark.parametrize(
    ("rule", "values", "stops"),
    [
        (stopping(), (0.3, 0.2), False),
        (stopping(), (0.3, 0.2, 0.1), True),
        (stopping(), (0.3, 0.2, 0.4), False),
        (stopping(patience=1), (0.3, 0.3), True),
        (stopping(mode="min"), (0.1, 0.2, 0.3), True),
        (stopping(mode="min"), (0.3, 0.2, 0.1), False),
        (stopping(min_delta=0.05), (0.10, 0.12, 0.14), True),
        (stopping(), (NAN, NAN, NAN), True),
        (stopping(), (0.3, None, None), True),
    ],
)
def test_a_trial_that_no_longer_improves_stops_early(
    rule: EarlyStopping, values: tuple[float | None, ...], stops: bool
) -> None:
    assert ends(rules(early_stopping=rule), scored(*values)) is stops


def test_early_stopping_says_which_epoch_was_best() -> None:
    (decision,) = rules(early_stopping=stopping()).decide(scored(0.1, 0.3, 0.2, 0.25))
    assert (decision.action, decision.epoch, decision.value, decision.limit) == ("early_stop", 4, 0.25, 0.3)
    assert decision.rule == "val_mrr improves within 2 epochs"
    assert decision.reason == "best val_mrr 0.3 at epoch 2"


def test_the_last_epoch_finishes_rather_than_stops_early() -> None:
    assert actions(rules(early_stopping=stopping(), epochs=3).decide(scored(0.3, 0.2, 0.1))) == ["finish"]


def test_a_pruned_trial_is_not_stopped_early_as_well() -> None:
    history = [
        *scored(0.3, 0.2),
        Epoch(epoch=3, metrics={"val_mrr": 0.1}, smoke={"r@5": 0.0}),
    ]
    both = rules(gate(3, floors=["r@5 >= 0.1"]), early_stopping=stopping())
    assert actions(both.decide(history)) == ["prune"]
