"""A search's budget becomes epochs: the same operations for every variant."""

from collections.abc import Callable

import pytest

from data.errors import UserError
from models.spec.costs import flops_per_window
from orchestrator.config.budget import epoch_flops, planned_flops, with_budget
from orchestrator.config.experiment import ExperimentConfig

DIM, WINDOWS = 16, 100  # of which 3 batches of 32 are full
EXPERIMENT = """
name: searched
variants: {mamba_s: {d_model: 32, d_state: 16, head_dim: 16}, amn: {d_model: 16}}
training: {batch_size: 32}
smoke: {epochs: []}
search: {samples: 4, space: {training.optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}}, halving: [1, 3]}
"""


def test_an_epoch_is_three_forward_passes_over_every_full_batch(load: Callable[..., ExperimentConfig]) -> None:
    trial = load().trials_of("amn")[0]
    assert epoch_flops(trial, DIM, 5, WINDOWS) == 3 * 96 * flops_per_window(trial.variant.spec, DIM, 5)


@pytest.mark.parametrize(
    ("halving", "epochs", "expected"),
    [
        ((), 5, 4 * 5),
        ((1, 3), 5, 4 * 1 + 2 * 2 + 1 * 2),  # four for an epoch, two for two more, one for the last two
        ((2,), 3, 4 * 2 + 2 * 1),
    ],
)
def test_halved_trials_cost_nothing_any_more(halving: tuple[int, ...], epochs: int, expected: int) -> None:
    assert planned_flops([1, 1, 1, 1], halving, epochs) == (expected, expected)


def test_of_trials_of_several_sizes_the_cheap_or_the_dear_ones_may_go_on() -> None:
    assert planned_flops([3, 1, 4, 2], (), 5) == (50, 50)
    assert planned_flops([3, 1, 4, 2], (1, 3), 5) == (10 + 2 * 3 + 2 * 1, 10 + 2 * 7 + 2 * 4)


def test_every_variant_trains_until_its_search_costs_the_budget(load: Callable[..., ExperimentConfig]) -> None:
    config = load("search.budget.flops=1e10")
    found = with_budget(config, DIM, WINDOWS)
    spent, epochs = {}, {}
    for name, variant in found.resolved_variants.items():
        trials = found.trials_of(name)
        costs = [epoch_flops(trial, DIM, 5, WINDOWS) for trial in trials]
        spent[name], _ = planned_flops(costs, (1, 3), variant.training.epochs)
        epochs[name] = variant.training.epochs
        assert {trial.variant.training.epochs for trial in trials} == {variant.training.epochs}
    assert all(0.95e10 <= flops <= 1.05e10 for flops in spent.values())
    assert epochs["amn"] > epochs["mamba_s"] > 3
    assert found.resolved()["variants"]["amn"]["training"]["epochs"] == epochs["amn"]


def test_without_a_budget_nothing_changes(load: Callable[..., ExperimentConfig]) -> None:
    config = load()
    assert with_budget(config, DIM, WINDOWS) is config


def test_epochs_are_held_against_the_budgets_and_not_the_files(load: Callable[..., ExperimentConfig]) -> None:
    config = load("training.epochs=1", "search.budget.flops=1e10", "smoke.epochs=[2]")
    assert with_budget(config, DIM, WINDOWS).resolved_variants["amn"].training.epochs > 3
    with pytest.raises(UserError, match=r"smoke.epochs\[0\]: expected at most \d+ .*, got 9999"):
        with_budget(load("search.budget.flops=1e10", "smoke.epochs=[9999]"), DIM, WINDOWS)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.budget.flops=1e8"], r"search.budget.flops: expected what whole epochs of mamba_s meet to within 5 %"),
        (["search.budget.flops=1e18"], r"expected at most .* \(10,000 epochs of mamba_s\), got 1e\+18; lower it"),
        (
            ["search.budget.flops=1e10", "variants.amn.search={d_model: [16, 64]}"],
            r"expected what whole epochs of amn meet to within 5 % .* cost .* to .*, as its sizes differ",
        ),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(
    load: Callable[..., ExperimentConfig], overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        with_budget(load(*overrides), DIM, WINDOWS)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.budget={}", r"search.budget.flops"),
        ("search.budget.flops=0", r"search.budget.flops: expected more than 0, got 0"),
        ("search.budget={flops: 1.0e+10, seconds: 5}", r"search.budget.seconds: unknown key"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(load: Callable[..., ExperimentConfig], override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(override)


def test_epochs_are_not_searched_beside_a_budget(load: Callable[..., ExperimentConfig]) -> None:
    with pytest.raises(UserError, match=r"expected no search for training.epochs beside search.budget"):
        load("search.budget.flops=1e10", "search.space={training.epochs: [2, 4]}")
