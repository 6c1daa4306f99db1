"""What a launch takes from the run folder that it continues: what the first launch worked out of its configuration."""

from __future__ import annotations

from orchestrator.config.budget import counts, with_epochs_of
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.run.ledger import Ledger


def as_launched_before(config: ExperimentConfig, ledger: Ledger) -> ExperimentConfig:
    """Return the experiment with the epochs that a budget of seconds came to, and with what its search has drawn."""
    if config.search is None or not ledger.is_claimed():
        return config
    if counts(config, "seconds"):
        config = with_epochs_of(config, ledger.resolved())
    return config.with_drawn(ledger.drawn())
