"""What a search tries: which settings are drawn, and which spaces are refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from data.errors import UserError
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.search import check_space, draw_samples, with_settings

EXPERIMENT = """
name: searched
seed: 4
variants:
  mamba_s: {d_model: 32}
  amn: {search: {d_model: [16, 32]}}
training: {epochs: 6}
smoke: {epochs: []}
search:
  samples: 3
  space: {training.optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}, dropout: {uniform: [0.0, 0.3]}}
  halving: [2, 4]
"""


def test_lists_that_fit_are_tried_whole() -> None:
    assert draw_samples({"a": [1, 2], "b": ["x"]}, 4, seed=0) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


def test_draws_are_spread_over_their_ranges_and_are_the_same_for_all_that_share_a_key() -> None:
    drawn = draw_samples({"lr": {"loguniform": [1e-4, 1e-2]}, "dropout": {"uniform": [0.0, 0.2]}}, 20, seed=3)
    # One in each twentieth of the range: of the numbers, or of their logarithms.
    assert sorted(int(20 * one["dropout"] / 0.2) for one in drawn) == [*range(20)]
    assert sorted(int(20 * (math.log10(one["lr"]) + 4) / 2) for one in drawn) == [*range(20)]
    other = draw_samples({"d_model": {"uniform": [1, 9]}, "lr": {"loguniform": [1e-4, 1e-2]}}, 20, seed=3)
    assert [one["lr"] for one in other] == [one["lr"] for one in drawn]
    assert draw_samples({"lr": {"uniform": [0, 1]}}, 2, seed=4) != draw_samples({"lr": {"uniform": [0, 1]}}, 2, seed=3)


def test_the_choices_of_a_list_are_dealt_out_evenly() -> None:
    for seed in range(5):
        drawn = draw_samples({"residual": ["a", "b"], "lr": {"uniform": [0, 1]}}, 4, seed=seed)
        assert sorted(one["residual"] for one in drawn) == ["a", "a", "b", "b"]
    assert len({one["a"] for one in draw_samples({"a": list(range(10)), "b": [0]}, 4, seed=0)}) == 4


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, r"space: expected keys to search, got none"),
        ({"lr": []}, r"space.lr: expected a list of choices"),
        ({"lr": 0.1}, r"space.lr: expected a list of choices, .* got 0.1; correct"),
        ({"lr": {"uniform": [1, 0]}}, r"space.lr: expected a list of choices"),
        ({"lr": {"uniform": [0, True]}}, r"space.lr: expected a list of choices"),
        ({"lr": {"normal": [0, 1]}}, r"space.lr: expected a list of choices"),
        ({"lr": {"uniform": [0, 1], "more": 1}}, r"space.lr: expected a list of choices"),
        ({"lr": {"loguniform": [0, 1]}}, r"space.lr: expected a lower end above 0 for loguniform, got 0"),
    ],
)
def test_a_space_without_choices_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_space(space, "space")


def test_settings_go_to_their_dotted_keys_and_leave_the_entry_alone() -> None:
    entry = {"d_model": 8, "training": {"batch_size": 4, "optimizer": {"lr": 1.0}}}
    found = with_settings(entry, {"training.optimizer.lr": 2.0, "dropout": 0.1})
    assert found == {"d_model": 8, "dropout": 0.1, "training": {"batch_size": 4, "optimizer": {"lr": 2.0}}}
    assert entry["training"] == {"batch_size": 4, "optimizer": {"lr": 1.0}}


def test_every_sample_is_a_trial_with_its_settings(load: Callable[..., ExperimentConfig]) -> None:
    trials = load().trials
    assert list(trials) == ["mamba_s.1", "mamba_s.2", "mamba_s.3", "amn.1", "amn.2"]
    first = trials["mamba_s.1"]
    assert first.variant.training.optimizer.lr == first.settings["training.optimizer.lr"]
    assert (first.variant.name, first.seed, trials["amn.2"].variant.spec.d_model) == ("mamba_s", 4, 32)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages=[[mamba_s], [amn]]", r"stages: expected none beside search"),
        ("search.halving=[4, 2]", r"search.halving: expected rising epochs, got \[4, 2\]"),
        ("search.halving=[6]", r"search.halving: expected epochs before the last, 6 of mamba_s.1, got 6"),
        ("variants.amn.search=[1]", r"variants.amn.search: expected a mapping, got \[1\]"),
        ("variants.amn.search={d_modle: [1]}", r"variants.amn.d_modle: unknown key; did you mean d_model\?"),
        ("variants.amn.search={d_model: [-1]}", r"variants.amn.d_model: expected an integer >= 1, got -1"),
        ("search.samples=1", r"search.samples: expected at least 2, got 1"),
        ("search=null", r"variants.amn.search: expected a section search, got none"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(
    load: Callable[..., ExperimentConfig], override: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load(override)
