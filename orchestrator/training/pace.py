"""`search.budget: {seconds: ...}`: the pace of every setting is measured where trials run, and becomes epochs."""

from __future__ import annotations

from dataclasses import replace

import ray
from ray.util import ActorPool

from data.preflight.check import report
from orchestrator.config.budget import counts, with_pace
from orchestrator.config.experiment import by_sample
from orchestrator.state import Prepared, Session, Started
from orchestrator.training.phase import trial_setup
from orchestrator.trials.setup import TrialSetup

SHARE = 0.02
"""Of a variant's budget: what its settings may be timed for, together."""
LEAST_S, MOST_S = 2.0, 5.0
"""For one setting."""


def with_measured_budget(prepared: Prepared, started: Started, session: Session) -> Prepared:
    """Return the run with the epochs that its budget of seconds means here; as it is without such a budget.

    A run folder that was claimed holds them already, see `orchestrator.config.budget.with_epochs_of`.

    Raises:
        UserError: Half an epoch is more than 5 % of the budget.
    """
    config = prepared.config
    if not counts(config, "seconds") or prepared.ledger.is_claimed():
        return prepared
    assert config.search is not None and config.search.budget is not None
    budget = config.search.budget.amount
    samples = by_sample(config.trials.values())
    num_settings = max(len(by_sample(config.trials_of(name))) for name in config.resolved_variants)
    timed = {sample: trial_setup(prepared, started, trials[0]) for sample, trials in samples.items()}
    paces = _measure(timed, started, config.name, min(max(LEAST_S, SHARE * budget / num_settings), MOST_S))
    costs = {sample: paces[sample] * len(trials) for sample, trials in samples.items()}
    found = with_pace(config, costs)
    checks, shown = [], []
    for name, variant in found.resolved_variants.items():
        own = [paces[sample] for sample in by_sample(config.trials_of(name))]
        pace, epochs = sum(own) / len(own), variant.training.epochs
        detail = f"at most, for {budget:g} s of search at {pace:.3g} s an epoch, measured before the trials"
        checks.append(report(f"{name}.epochs", epochs, detail))
        shown.append(f"{name} at most {epochs} epochs of {pace:.3g} s")
    session.say(f"budget    {budget:g} s for the search of each variant: {', '.join(shown)}")
    return replace(prepared, config=found, checks=(*prepared.checks, *checks))


def _measure(timed: dict[str, TrialSetup], started: Started, experiment: str, least_s: float) -> dict[str, float]:
    """Return seconds of an epoch by sample, timed as many at once as trials will run, so that they are as slow."""
    admission = started.admission
    ray.get(started.evaluator.ready.remote())  # it builds its index on the CPUs that are to be timed

    class Paced:
        """Imports torch on the node that it runs on, not in the driver."""

        def epoch_s(self, setup: TrialSetup) -> float:
            from orchestrator.trials.pace import epoch_s

            return epoch_s(setup, least_s)

    actors = [
        ray.remote(Paced)
        .options(
            name=f"{experiment}/pace.{number}", num_cpus=admission.cpus_per_worker, num_gpus=admission.gpus_per_worker
        )
        .remote()
        for number in range(1, min(admission.slots, len(timed)) + 1)
    ]
    try:
        found = ActorPool(actors).map(lambda actor, setup: actor.epoch_s.remote(setup), timed.values())
        return dict(zip(timed, found, strict=True))
    finally:
        for actor in actors:
            ray.kill(actor)
