"""`search.budget`: every variant trains for as many epochs as make its whole search cost the same operations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from data.errors import UserError
from models.spec.costs import training_flops_per_window
from orchestrator.config.experiment import ExperimentConfig, PlannedTrial, by_sample
from orchestrator.config.references import check_epochs
from orchestrator.config.search import with_settings

NEAR = 0.05
"""A search is planned to cost its budget to within this share."""
MOST_EPOCHS = 10_000


def with_budget(config: ExperimentConfig, dim: int, num_windows: int) -> ExperimentConfig:
    """Return the experiment with the epochs that the budget means; as it is where there is none.

    Args:
        config: The experiment.
        dim: The vectors' dimension.
        num_windows: How many training windows there are.

    Raises:
        UserError: No number of epochs comes within 5 % of the budget, or a smoke evaluation would come after the last.
    """
    if config.search is None or config.search.budget is None:
        return config
    variants = dict(config.variants)
    for name in config.resolved_variants:
        epochs = _epochs(name, config.trials_of(name), config, dim, num_windows)
        variants[name] = with_settings(variants[name], {"training.epochs": epochs})
    found = config.model_copy(update={"variants": variants})
    check_epochs(found)
    return found


def planned_flops(costs: Sequence[int], halving: Sequence[int], epochs: int) -> tuple[int, int]:
    """Return the least and the most operations that a variant's search costs; `costs` are those of its samples' epochs.

    Of n samples that are compared n // 2 end. Which ones is not known before: the dearest at the least, the cheapest at
    the most.
    """
    cheapest_first, alive = sorted(costs), len(costs)
    least = most = 0
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


def _epochs(name: str, trials: Sequence[PlannedTrial], config: ExperimentConfig, dim: int, num_windows: int) -> int:
    search = config.search
    assert search is not None and search.budget is not None
    budget, halving = search.budget.flops, search.halving
    costs = [
        sum(epoch_flops(trial, dim, config.data.context_length, num_windows) for trial in sample)
        for sample in by_sample(trials).values()
    ]
    first = halving[-1] + 1 if halving else 1

    def middle(epochs: int) -> float:
        return sum(planned_flops(costs, halving, epochs)) / 2

    epochs = first + max(0, round((budget - middle(first)) / (middle(first + 1) - middle(first))))
    if epochs > MOST_EPOCHS:
        raise UserError(
            f"search.budget.flops: expected at most {middle(MOST_EPOCHS):.3g} ({MOST_EPOCHS:,} epochs of {name}), "
            f"got {budget:.3g}; lower it"
        )
    least, most = planned_flops(costs, halving, epochs)
    if least < (1 - NEAR) * budget or most > (1 + NEAR) * budget:
        cost = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}, as its sizes differ"
        raise UserError(
            f"search.budget.flops: expected what whole epochs of {name} meet to within {100 * NEAR:.0f} % "
            f"({epochs} cost {cost}; one more {middle(epochs + 1) - middle(epochs):.3g}), got {budget:.4g}; "
            "take another or a larger one"
        )
    return epochs
