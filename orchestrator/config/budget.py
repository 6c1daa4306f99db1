"""`search.budget`: every variant trains for as many epochs as make its whole search cost the same.

Operations are counted before anything runs. Seconds need the pace of each setting on the machine of the run: a launch
measures it, and the epochs that follow stay in the run's config.yaml, so that a relaunch trains as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from data.errors import UserError
from models.spec.costs import training_flops_per_window
from orchestrator.config.experiment import ExperimentConfig, PlannedTrial, by_sample
from orchestrator.config.references import check_epochs
from orchestrator.config.search import with_settings

NEAR = 0.05
"""A search keeps its budget to within this share."""
MARGIN = 1.1
"""Of seconds so many more are planned: trials end when theirs are spent, see orchestrator/training/spending.py. So a
machine that turns out slower than measured, or a little faster, keeps the budget all the same."""
MOST_EPOCHS = 10_000

Costs = Mapping[str, float]
"""What one epoch costs by sample, under all seeds together."""


def counts(config: ExperimentConfig, unit: str) -> bool:
    """Return whether the search has a budget of `flops` or of `seconds`."""
    return config.search is not None and config.search.budget is not None and config.search.budget.unit == unit


def with_budget(config: ExperimentConfig, dim: int, num_windows: int) -> ExperimentConfig:
    """Return the experiment with the epochs that a budget of operations means; as it is where there is none.

    Args:
        config: The experiment.
        dim: The vectors' dimension.
        num_windows: How many training windows there are.

    Raises:
        UserError: No number of epochs comes within 5 % of the budget, or a smoke evaluation would come after the last.
    """
    return _with_costs(config, epoch_costs(config, dim, num_windows)) if counts(config, "flops") else config


def with_pace(config: ExperimentConfig, pace: Costs) -> ExperimentConfig:
    """Return the experiment with the most epochs that a budget of seconds pays for.

    Args:
        config: The experiment.
        pace: Seconds of an epoch by sample.

    Raises:
        UserError: Half an epoch is more than 5 % of the budget, or a smoke evaluation would come after the last.
    """
    return _with_costs(config, pace)


def with_epochs_of(config: ExperimentConfig, resolved: Mapping[str, Any]) -> ExperimentConfig:
    """Return the experiment with the epochs that an earlier launch found for its budget, from its config.yaml."""
    stored = resolved.get("variants") or {}
    epochs = {name: stored.get(name, {}).get("training", {}).get("epochs") for name in config.resolved_variants}
    return _with_epochs(config, {name: number for name, number in epochs.items() if number is not None})


def epoch_costs(config: ExperimentConfig, dim: int, num_windows: int) -> dict[str, float]:
    """Return the operations of one epoch of every sample."""
    length = config.data.context_length
    return {
        sample: sum(epoch_flops(trial, dim, length, num_windows) for trial in trials)
        for sample, trials in by_sample(config.trials.values()).items()
    }


def planned_cost(costs: Sequence[float], halving: Sequence[int], epochs: int) -> tuple[float, float]:
    """Return the least and the most that samples which compete cost; `costs` are those of their epochs.

    Of n samples that are compared n // 2 end. Which ones is not known before: the dearest at the least, the cheapest at
    the most.
    """
    cheapest_first, alive = sorted(costs), len(costs)
    least = most = 0.0
    for begin, end in pairwise((0, *halving, epochs)):
        least += sum(cheapest_first[:alive]) * (end - begin)
        most += sum(cheapest_first[len(costs) - alive :]) * (end - begin)
        alive -= alive // 2
    return least, most


def epoch_flops(trial: PlannedTrial, dim: int, context_length: int, num_windows: int) -> int:
    """Return the operations of one epoch of training: forward and backward over every full batch."""
    batch = trial.variant.training.batch_size
    windows = num_windows // batch * batch
    return training_flops_per_window(trial.variant.spec, dim, context_length) * windows


def _with_costs(config: ExperimentConfig, costs: Costs) -> ExperimentConfig:
    found = _with_epochs(config, {name: _epochs(name, config, costs) for name in config.resolved_variants})
    check_epochs(found)
    return found


def _with_epochs(config: ExperimentConfig, epochs: Mapping[str, int]) -> ExperimentConfig:
    changed = {
        name: with_settings(config.variants[name], {"training.epochs": number}) for name, number in epochs.items()
    }
    return config.model_copy(update={"variants": {**config.variants, **changed}})


def _generations(name: str, config: ExperimentConfig, costs: Costs) -> list[list[float]]:
    """Return the costs of the samples of each generation; those that are still to be drawn cost what the first do."""
    first = [costs[sample] for sample in by_sample(config.trials_of(name))]
    sizes = config.generations_of(name)
    if len(sizes) == 1:
        return [first]
    if counts(config, "flops") and len(set(first)) > 1:
        raise UserError(
            f"search.budget.flops: expected settings of {name} that cost the same, since what Optuna draws later is "
            "not known, got a space with sizes in it; give a budget of seconds, or sampler: spread"
        )
    return [[sum(first) / len(first)] * size for size in sizes]


def _epochs(name: str, config: ExperimentConfig, costs: Costs) -> int:
    search = config.search
    assert search is not None and search.budget is not None
    halving, key = search.halving, f"search.budget.{search.budget.unit}"
    budget = search.budget.amount * (MARGIN if counts(config, "seconds") else 1.0)
    generations = _generations(name, config, costs)
    first = halving[-1] + 1 if halving else 1

    def between(epochs: int) -> tuple[float, float]:
        planned = [planned_cost(generation, halving, epochs) for generation in generations]
        return sum(least for least, _ in planned), sum(most for _, most in planned)

    def middle(epochs: int) -> float:
        return sum(between(epochs)) / 2

    epochs = first + max(0, round((budget - middle(first)) / (middle(first + 1) - middle(first))))
    if epochs > MOST_EPOCHS:
        raise UserError(
            f"{key}: expected at most {middle(MOST_EPOCHS):.3g} ({MOST_EPOCHS:,} epochs of {name}), "
            f"got {budget:.3g}; lower it"
        )
    one_more = middle(epochs + 1) - middle(epochs)
    if counts(config, "seconds"):
        if one_more > 2 * NEAR * search.budget.amount:
            raise UserError(
                f"{key}: expected at least {one_more / (2 * NEAR):.3g}, since an epoch of the settings of {name} that "
                f"go on to the end takes {one_more:.3g} s, got {search.budget.amount:.4g}; raise it"
            )
        return epochs
    least, most = between(epochs)
    if least < (1 - NEAR) * budget or most > (1 + NEAR) * budget:
        cost = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}, as its settings differ"
        raise UserError(
            f"{key}: expected what whole epochs of {name} meet to within {100 * NEAR:.0f} % "
            f"({epochs} cost {cost}; one more {one_more:.3g}), got {budget:.4g}; "
            "take another or a larger one"
        )
    return epochs
