"""The rounds of a search: settings that were drawn together are compared at some epochs, and the worse half ends."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.ending import Ending
from orchestrator.config.experiment import ExperimentConfig, PlannedTrial, by_sample
from orchestrator.gates import EarlyStopping, best_score, ended, halve
from orchestrator.run.ledger import Ledger
from orchestrator.state import Prepared
from orchestrator.training.scheduler import GateScheduler


def end_worse_halves(prepared: Prepared, scheduler: GateScheduler, rung: int) -> None:
    """Compare the trials of each generation that reached the epoch `rung`, and end the worse half of them."""
    config, ledger = prepared.config, prepared.ledger
    for variant in config.resolved_variants.values():
        selection = config.selection(variant)
        for generation in _generations(config, variant.name):
            _end_worse_half(by_sample(generation), ledger, scheduler, selection, rung)


def _generations(config: ExperimentConfig, variant: str) -> list[list[PlannedTrial]]:
    trials = config.trials_of(variant)
    numbers = dict.fromkeys(one.generation for one in trials)
    return [[one for one in trials if one.generation == number] for number in numbers]


def _end_worse_half(
    samples: dict[str, list[PlannedTrial]],
    ledger: Ledger,
    scheduler: GateScheduler,
    selection: EarlyStopping,
    rung: int,
) -> None:
    scores = {
        sample: mean_score(ledger, [trial.name for trial in trials], selection, rung)
        for sample, trials in samples.items()
        if any(_competes(ledger, trial.name, rung) for trial in trials)
    }
    shown = ", ".join(f"{sample} {_shown(score)}" for sample, score in scores.items())
    decision = ended(
        Ending.HALVED,
        rung,
        f"among the better half on {selection.metric} at epoch {rung}",
        f"{selection.metric} to epoch {rung}: {shown}",
    )
    for trial in [trial for sample in halve(scores) for trial in samples[sample]]:
        if ledger.verdict_of(trial.name) is None:
            scheduler.end(trial.name, decision)


def mean_score(ledger: Ledger, names: Sequence[str], selection: EarlyStopping, rung: int | None = None) -> float | None:
    """Return the mean score of the trials of one sample, up to the epoch `rung`; more is better.

    None where a rule or an error has ended one of them.
    """
    ends = [ledger.verdict_of(name) for name in names]
    lost = any(end is not None and not end.ending.survived and end.ending is not Ending.HALVED for end in ends)
    histories = [ledger.variant(name).history() for name in names]
    if rung is not None:
        histories = [[epoch for epoch in history if epoch.epoch <= rung] for history in histories]
    known = [score for history in histories if (score := best_score(history, selection)) is not None]
    return None if lost or len(known) < len(names) else sum(known) / len(known)


def _competes(ledger: Ledger, name: str, rung: int) -> bool:
    """Return whether a trial was at the epoch `rung` and no other rule had ended it there."""
    end = ledger.verdict_of(name)
    if end is not None:  # those that were halved here, by a launch that was cut off
        return end.ending is Ending.HALVED and end.epoch == rung
    return any(epoch.epoch == rung for epoch in ledger.variant(name).history())


def _shown(score: float | None) -> str:
    return "missing" if score is None else f"{score:.4g}"
