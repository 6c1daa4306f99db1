"""A search's rounds: which trials go on to which epoch, and which half of them ends there."""

from dataclasses import replace
from typing import Any

import pytest

from data.io import append_json_line
from evaluation.ending import Ending
from orchestrator.gates import ended, halve
from tests.orchestrator.training.rounds import Rounds

EXPERIMENT = """
name: searched
variants: {mamba_s: {}}
training: {epochs: 5}
smoke: {epochs: []}
search: {samples: 4, halving: [1, 3], space: {training.optimizer.lr: [1.0e-4, 2.0e-4, 3.0e-4, 4.0e-4]}}
"""
SCORES = {"mamba_s.1": 0.1, "mamba_s.2": 0.4, "mamba_s.3": 0.3, "mamba_s.4": 0.2}


@pytest.mark.parametrize(
    ("scores", "worse"),
    [
        ({"a": 0.2, "b": 0.1, "c": 0.3, "d": 0.0}, {"b", "d"}),
        ({"a": 0.2, "b": 0.1, "c": 0.3}, {"b"}),
        ({"a": 0.2}, set()),
        ({"a": 0.1, "b": 0.1}, {"b"}),
        ({"a": None, "b": float("nan"), "c": -9.0}, {"b"}),
    ],
)
def test_the_worse_half_ends_and_a_missing_score_is_the_worst(scores: dict[str, Any], worse: set[str]) -> None:
    assert halve(scores) == worse


@pytest.fixture
def rounds(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    prepared = prepared_from(EXPERIMENT)
    prepared.ledger.open({}, {})
    return Rounds(prepared, monkeypatch, SCORES)


EXPECTED = {
    "mamba_s.1": (Ending.HALVED, 1),
    "mamba_s.2": (Ending.FINISHED, 5),
    "mamba_s.3": (Ending.HALVED, 3),
    "mamba_s.4": (Ending.HALVED, 1),
}


def test_four_settings_become_two_and_then_one(rounds: Rounds) -> None:
    assert rounds.train() == EXPECTED
    everyone = sorted(SCORES)
    assert rounds.started == [(everyone, 1), (["mamba_s.2", "mamba_s.3"], 3), (["mamba_s.2"], 5)]
    reason = rounds.ledger.end_of("mamba_s.1").reason
    assert reason == "val_soft_r@5 to epoch 1: mamba_s.1 0.1, mamba_s.2 0.4, mamba_s.3 0.3, mamba_s.4 0.2"


def test_a_launch_that_was_cut_off_between_two_ends_of_a_round_ends_the_same_half(rounds: Rounds) -> None:
    for name, score in SCORES.items():
        folder = rounds.ledger.variant(name)
        folder.path.mkdir(parents=True)
        append_json_line(folder.metrics, {"epoch": 1, "val_soft_r@5": score})
    decision = ended(Ending.HALVED, 1, "among the better half on val_soft_r@5 at epoch 1", "why")
    rounds.ledger.record("mamba_s.4", decision)
    assert rounds.train() == EXPECTED
    assert rounds.started == [(["mamba_s.2", "mamba_s.3"], 3), (["mamba_s.2"], 5)]


def test_trials_that_were_interrupted_are_halved_like_others(rounds: Rounds) -> None:
    for name, score in SCORES.items():
        folder = rounds.ledger.variant(name)
        folder.path.mkdir(parents=True)
        append_json_line(folder.metrics, {"epoch": 1, "val_soft_r@5": score})
        rounds.ledger.record(name, ended(Ending.INTERRUPTED, 1, "the trial runs to its end", "interrupted"))
    assert rounds.train() == EXPECTED
    assert rounds.started == [(["mamba_s.2", "mamba_s.3"], 3), (["mamba_s.2"], 5)]


def test_settings_are_compared_with_those_that_were_drawn_with_them(rounds: Rounds) -> None:
    rates = [[{"training.optimizer.lr": lr} for lr in pair] for pair in ((1e-4, 2e-4), (3e-4, 4e-4))]
    rounds.prepared = replace(rounds.prepared, config=rounds.prepared.config.with_drawn({"mamba_s": rates}))
    assert rounds.train() == {
        "mamba_s.1": (Ending.HALVED, 1),
        "mamba_s.2": (Ending.FINISHED, 5),
        "mamba_s.3": (Ending.FINISHED, 5),
        "mamba_s.4": (Ending.HALVED, 1),
    }


def test_with_seeds_the_settings_are_compared_by_their_means_and_end_under_every_seed(
    prepared_from: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepared_from(EXPERIMENT.replace("samples: 4", "samples: 2") + "seeds: [7, 8]\n")
    prepared.ledger.open({}, {})
    # The means are 0.30 and 0.35, though the best trial is one of the first setting.
    scores = {"mamba_s.1@7": 0.5, "mamba_s.1@8": 0.1, "mamba_s.2@7": 0.4, "mamba_s.2@8": 0.3}
    rounds = Rounds(prepared, monkeypatch, scores)
    assert rounds.train() == {
        "mamba_s.1@7": (Ending.HALVED, 1),
        "mamba_s.1@8": (Ending.HALVED, 1),
        "mamba_s.2@7": (Ending.FINISHED, 5),
        "mamba_s.2@8": (Ending.FINISHED, 5),
    }
    assert rounds.ledger.end_of("mamba_s.1@8").reason == "val_soft_r@5 to epoch 1: mamba_s.1 0.3, mamba_s.2 0.35"


def test_settings_of_which_a_rule_ended_a_seed_are_the_worst(
    prepared_from: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepared_from(EXPERIMENT.replace("samples: 4", "samples: 2") + "seeds: [7, 8]\n")
    prepared.ledger.open({}, {})
    prepared.ledger.record("mamba_s.1@8", ended(Ending.DIVERGED, 1, "the loss is finite", "nan"))
    scores = {"mamba_s.1@7": 0.9, "mamba_s.2@7": 0.1, "mamba_s.2@8": 0.1}
    ends = Rounds(prepared, monkeypatch, scores).train()
    assert [ends[name][0] for name in ("mamba_s.1@7", "mamba_s.2@7")] == [Ending.HALVED, Ending.FINISHED]
