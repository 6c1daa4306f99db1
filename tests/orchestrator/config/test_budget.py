"""A search's budget becomes epochs: the same operations for every variant."""

from collections.abc import Callable

import pytest

from data.errors import UserError
from models.spec.costs import flops_per_window
from orchestrator.config.budget import epoch_flops, planned_cost, with_budget, with_epochs_of, with_pace
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
    assert planned_cost([1, 1, 1, 1], halving, epochs) == (expected, expected)


def test_of_trials_of_several_sizes_the_cheap_or_the_dear_ones_may_go_on() -> None:
    assert planned_cost([3, 1, 4, 2], (), 5) == (50, 50)
    assert planned_cost([3, 1, 4, 2], (1, 3), 5) == (10 + 2 * 3 + 2 * 1, 10 + 2 * 7 + 2 * 4)


def test_every_variant_trains_until_its_search_costs_the_budget(load: Callable[..., ExperimentConfig]) -> None:
    config = load("search.budget.flops=1e10")
    found = with_budget(config, DIM, WINDOWS)
    spent, epochs = {}, {}
    for name, variant in found.resolved_variants.items():
        trials = found.trials_of(name)
        costs = [epoch_flops(trial, DIM, 5, WINDOWS) for trial in trials]
        spent[name], _ = planned_cost(costs, (1, 3), variant.training.epochs)
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
            r"expected what whole epochs of amn meet to within 5 % .* cost .* to .*, as its settings differ",
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
        ("search.budget={}", r"search.budget: expected flops or seconds, got neither; give one of them"),
        ("search.budget.flops=0", r"search.budget.flops: expected more than 0, got 0"),
        ("search.budget={flops: 1.0e+10, seconds: 5}", r"search.budget: expected flops or seconds, got both"),
        ("search={budget: {seconds: 5}, generation: 2}", r"search.generation: expected it beside sampler: optuna"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(load: Callable[..., ExperimentConfig], override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(override)


PACE = {f"mamba_s.{number}": 2.0 for number in range(1, 5)} | {f"amn.{number}": 0.5 for number in range(1, 5)}


def test_seconds_become_epochs_by_the_measured_pace(load: Callable[..., ExperimentConfig]) -> None:
    found = with_pace(load("search.budget.seconds=60"), PACE)
    # Halved at epochs 1 and 3 a search of E epochs costs 4 + 2 * 2 + (E - 3) = E + 5 of them. A tenth more is planned,
    # since trials end when their seconds are spent: 33 of 2 s, 132 of 0.5 s.
    assert {name: one.training.epochs for name, one in found.resolved_variants.items()} == {"mamba_s": 28, "amn": 127}


def test_chance_between_the_paces_of_settings_is_no_reason_to_refuse(load: Callable[..., ExperimentConfig]) -> None:
    pace = PACE | {"mamba_s.1": 1.6, "mamba_s.2": 2.4}
    assert with_pace(load("search.budget.seconds=60"), pace).resolved_variants["mamba_s"].training.epochs == 28


def test_seconds_of_which_half_an_epoch_is_more_than_a_twentieth_are_refused(
    load: Callable[..., ExperimentConfig],
) -> None:
    assert with_pace(load("search.budget.seconds=20"), PACE)
    with pytest.raises(UserError, match=r"search.budget.seconds: expected at least 20, .* takes 2 s, got 19; raise it"):
        with_pace(load("search.budget.seconds=19"), PACE)


def test_a_relaunch_trains_for_the_epochs_of_the_first_launch(load: Callable[..., ExperimentConfig]) -> None:
    first = with_pace(load("search.budget.seconds=60"), PACE)
    again = with_epochs_of(load("search.budget.seconds=60"), first.resolved())
    assert again.fingerprint() == first.fingerprint()
    assert with_epochs_of(load(), {}).fingerprint() == load().fingerprint()


def test_generations_that_are_still_to_be_drawn_are_paid_from_the_budget(load: Callable[..., ExperimentConfig]) -> None:
    config = load("search.sampler=optuna", "search.samples=6", "search.budget.seconds=60")
    found = with_pace(config, dict.fromkeys(PACE, 2.0))
    # Of four E + 5 as above; of two, of which one ends at epoch 1, 2 + (E - 1): 2 E + 6 of 2 s are 66 s.
    assert found.resolved_variants["amn"].training.epochs == 14


def test_sizes_that_are_not_drawn_yet_cannot_be_counted(load: Callable[..., ExperimentConfig]) -> None:
    optuna = ("search.sampler=optuna", "search.samples=8", "search.budget.flops=1e10")
    assert with_budget(load(*optuna), DIM, WINDOWS)
    with pytest.raises(UserError, match=r"expected settings of mamba_s that cost the same"):
        with_budget(load(*optuna, "search.space.d_model=[16, 64]"), DIM, WINDOWS)


def test_seconds_are_for_trials_of_one_worker(load: Callable[..., ExperimentConfig]) -> None:
    with pytest.raises(UserError, match=r"search.budget.seconds: expected trials of one worker, .* got 2 of mamba_s.1"):
        load("search.budget.seconds=60", "training.workers=2")


def test_epochs_are_not_searched_beside_a_budget(load: Callable[..., ExperimentConfig]) -> None:
    with pytest.raises(UserError, match=r"expected no search for training.epochs beside search.budget"):
        load("search.budget.flops=1e10", "search.space={training.epochs: [2, 4]}")
