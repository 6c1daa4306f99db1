"""A budget of seconds while it is spent: shares worked out by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from data.io import append_json_line
from evaluation.ending import Ending
from orchestrator.gates import ended
from orchestrator.state import Prepared
from orchestrator.training.scheduler import GateScheduler
from orchestrator.training.spending import Spending

RATES = "{training.optimizer.lr: [1.0e-4, 2.0e-4, 3.0e-4, 4.0e-4]}"
EXPERIMENT = f"""
name: searched
variants: {{mamba_s: {{}}}}
training: {{epochs: 40, early_stopping: null}}
smoke: {{epochs: []}}
search: {{samples: 4, halving: [1], budget: {{seconds: 60}}, space: {RATES}}}
"""


def trained(prepared: Prepared, name: str, seconds: list[float], rung: bool = False) -> None:
    folder = prepared.ledger.variant(name)
    folder.path.mkdir(parents=True, exist_ok=True)
    for epoch, step in enumerate(seconds, start=len(folder.records()) + 1):
        append_json_line(folder.metrics, {"epoch": epoch, "seconds": {"step": step - 0.5, "data": 0.5, "validate": 9}})
    if rung:
        prepared.ledger.record(name, ended(Ending.HALVED, 1, "among the better half", "worse"))


@pytest.fixture
def prepared(prepared_from: Any) -> Prepared:
    """Four settings of 5 s an epoch, of which two go on: 60 s less 4 x 5 s are 20 s for each."""
    found: Prepared = prepared_from(EXPERIMENT)
    found.ledger.path.mkdir()
    for name in ("mamba_s.1", "mamba_s.2"):
        trained(found, name, [5.0], rung=True)
    return found


@pytest.mark.parametrize(
    ("epochs", "is_over"),
    [
        ([5.0], False),
        ([5.0, 5.0, 5.0, 5.0], False),  # 15 of 20 s
        ([5.0, 5.0, 5.0, 5.0, 5.0], True),
        ([5.0, 9.0, 9.0], True),  # 18 s, and the half of an epoch is 4.5 s
        ([5.0, 7.0, 7.0], False),  # 14 s: the next would end at 21 s, which is nearer
        ([5.0, 8.0], False),
    ],
)
def test_a_trial_ends_at_the_epoch_nearest_to_its_share(prepared: Prepared, epochs: list[float], is_over: bool) -> None:
    trained(prepared, "mamba_s.3", epochs)
    trained(prepared, "mamba_s.4", [5.0])
    found = Spending(prepared.config, prepared.ledger).decide("mamba_s.3")
    assert (found is not None) == is_over


def test_the_end_is_that_of_a_trial_that_ran_to_its_end_and_says_why(prepared: Prepared) -> None:
    trained(prepared, "mamba_s.3", [5.0] * 5)
    trained(prepared, "mamba_s.4", [5.0])
    found = Spending(prepared.config, prepared.ledger).decide("mamba_s.3")
    assert found is not None
    assert (found.ending, found.epoch, found.passed) == (Ending.FINISHED, 5, True)
    assert found.reason == "its share of the search's seconds is spent: 20 of 20 s"


def test_the_other_trial_has_the_same_share_after_the_first_has_ended(prepared: Prepared) -> None:
    trained(prepared, "mamba_s.3", [5.0] * 5)
    prepared.ledger.record("mamba_s.3", ended(Ending.FINISHED, 5, "epoch == 5", ""))
    trained(prepared, "mamba_s.4", [5.0, 5.0, 5.0, 5.0])
    spending = Spending(prepared.config, prepared.ledger)
    assert spending.decide("mamba_s.4") is None
    trained(prepared, "mamba_s.4", [5.0])
    assert spending.decide("mamba_s.4") is not None


def test_a_trial_whose_share_was_spent_is_over_for_the_next_launch(prepared: Prepared) -> None:
    trained(prepared, "mamba_s.3", [5.0] * 5)
    trained(prepared, "mamba_s.4", [5.0])
    config, ledger = prepared.config, prepared.ledger
    found = Spending(config, ledger).decide("mamba_s.3")
    assert found is not None
    ledger.record("mamba_s.3", found)
    ledger.record("mamba_s.3", ended(Ending.FAILED, 5, "what the trial left is whole", "best.pt is damaged"))
    rules = {name: config.stop_rules(trial.variant, {}) for name, trial in config.trials.items()}
    quiet: Any = SimpleNamespace(decided=lambda name, decision: None)
    scheduler = GateScheduler(ledger, rules, quiet, Spending(config, ledger))
    scheduler.open(rules, quiet)
    assert len(scheduler._history["mamba_s.3"]) == 4  # its last epoch is trained and judged again
    assert len(scheduler._history["mamba_s.4"]) == 1


def test_a_generation_has_the_part_that_its_settings_ask_for(prepared_from: Any) -> None:
    optuna = "sampler: optuna, generation: 2, samples: 4, halving: []"
    prepared = prepared_from(EXPERIMENT.replace("samples: 4, halving: [1]", optuna))
    prepared.ledger.open({}, {})
    trained(prepared, "mamba_s.1", [5.0, 5.0, 5.0])  # of 15 s for each of the four
    trained(prepared, "mamba_s.2", [5.0, 5.0])
    spending = Spending(prepared.config, prepared.ledger)
    assert [spending.decide(name) is not None for name in ("mamba_s.1", "mamba_s.2")] == [True, False]


def test_without_a_budget_of_seconds_nothing_ends(prepared_from: Any) -> None:
    prepared = prepared_from(EXPERIMENT.replace("seconds: 60", "flops: 1.0e+12"))
    prepared.ledger.open({}, {})
    trained(prepared, "mamba_s.1", [500.0, 500.0])
    assert Spending(prepared.config, prepared.ledger).decide("mamba_s.1") is None
