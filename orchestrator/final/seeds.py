"""From trials to rows: what a variant of several trials comes to, under several seeds or of a search.

Of a search validation chooses a sample, the trials with the same settings. A row is the mean of those of them that
survived, under several seeds; of a single trial it is that trial, unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.ending import Ending
from evaluation.measures.metrics import DECISION_METRIC, NOVEL
from evaluation.results import Row
from evaluation.statistics.outcomes import Outcomes
from models.spec.costs import training_flops_per_window
from orchestrator.config.experiment import ExperimentConfig, PlannedTrial, by_sample
from orchestrator.final.result import FinalResult
from orchestrator.gates import EarlyStopping, best_epoch, best_score
from orchestrator.run.ledger import Ledger, TrialEnd, epoch_of


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantEnd:
    """How a variant ended, from how its trials did, and the trial that stands for it: that of the best weights."""

    end: TrialEnd
    trial: str
    trials: Mapping[str, TrialEnd]
    """By trial, in the order of samples and seeds."""
    chosen: tuple[str, ...]
    """The trials of the sample that stands for the variant, one a seed."""

    @property
    def survivors(self) -> list[str]:
        """The trials that the variant's figures are the mean of; none where it did not survive."""
        survived = self.end.ending.survived
        return [name for name in self.chosen if self.trials[name].ending.survived] if survived else []


def variant_end(
    planned: Sequence[PlannedTrial],
    ends: Mapping[str, TrialEnd],
    ledger: Ledger,
    *,
    selection: EarlyStopping,
    survive: float,
) -> VariantEnd:
    """Return how a variant ended: it survives when a sample does, of whose trials at least the share `survive` did.

    The sample with the best mean validation score stands for it, and of its trials that with the best one.
    """
    of_trials = {trial.name: ends[trial.name] for trial in planned}
    samples = [[trial.name for trial in trials] for trials in by_sample(planned).values()]

    def score(name: str) -> float:
        found = best_score(ledger.variant(name).history(), selection)
        return -np.inf if found is None or np.isnan(found) else found

    def mean_score(names: Sequence[str]) -> float:
        return float(np.mean([*map(score, names)]))

    def alive(names: Sequence[str]) -> list[str]:
        return [name for name in names if of_trials[name].ending.survived]

    def survived(names: Sequence[str]) -> bool:
        return len(alive(names)) >= max(1.0, survive * len(names))

    survivors = [names for names in samples if survived(names)]
    chosen = max(survivors or samples, key=lambda names: mean_score(alive(names) or names))
    stands = max(alive(chosen) or chosen, key=score)
    if len(planned) == 1:
        return VariantEnd(end=of_trials[stands], trial=stands, trials=of_trials, chosen=tuple(chosen))
    same = [of_trials[name] for name in (chosen if survivors else of_trials)]
    ending = Counter(end.ending for end in same if end.ending.survived == bool(survivors)).most_common(1)[0][0]
    reasons = [f"{name}: {end.reason}" for name, end in of_trials.items() if _is_news(end)]
    few, of, what = (survivors, samples, "settings") if len(samples) > 1 else (alive(chosen), chosen, "seeds")
    reason = "; ".join([f"{len(few)} of {len(of)} {what} survived", *reasons])
    end = TrialEnd(ending=ending, epoch=of_trials[stands].epoch, reason=reason)
    return VariantEnd(end=end, trial=stands, trials=of_trials, chosen=tuple(chosen))


def _is_news(end: TrialEnd) -> bool:
    """Return whether a trial's end is worth a sentence in its row: half of a search ends by being compared."""
    return not end.ending.survived and end.ending is not Ending.HALVED


def pool(results: Mapping[str, FinalResult], stands: str) -> FinalResult:
    """Return the result of a row from those of its surviving trials: means over them, and latencies of one of them.

    Their intervals are made anew, see `FinalEvaluations`.
    """
    if len(results) == 1:
        return results[stands]
    one = results[stands]
    means = {name: float(np.mean([result.metrics[name] for result in results.values()])) for name in one.metrics}
    timed = {name: value for name, value in one.metrics.items() if name.endswith("_ms")}
    outcomes = Outcomes.stack([result.outcomes for result in results.values()])
    return replace(one, metrics={**means, **timed}, outcomes=outcomes)


def seed_entries(planned: Sequence[PlannedTrial], end: VariantEnd, results: Mapping[str, FinalResult]) -> list[Row]:
    """Return what results.json says of each trial that a row may be the mean of: its end and its own figures."""
    return [
        _entry(trial, end.trials[trial.name], results.get(trial.name)) for trial in planned if trial.name in end.chosen
    ]


def search_entries(config: ExperimentConfig, variant: str, end: VariantEnd, ledger: Ledger, dim: int) -> list[Row]:
    """Return what results.json says of each trial of a search: settings, end, score on validation, and what it cost.

    `flops` are the operations of all training steps, the backward pass counted as two forward passes.
    """
    entries = []
    for trial in config.trials_of(variant):
        records, selection = ledger.variant(trial.name).records(), config.selection(trial.variant)
        best = best_epoch([epoch_of(record) for record in records], selection) if records else None
        flops = training_flops_per_window(trial.variant.spec, dim, config.data.context_length)
        entries.append(
            {
                "trial": trial.name,
                "seed": trial.seed,
                "settings": dict(trial.settings),
                "status": end.trials[trial.name].ending.name,
                "reason": end.trials[trial.name].reason,
                "epochs": end.trials[trial.name].epoch,
                "best_epoch": best.epoch if best else None,
                "score": best.metrics.get(selection.metric) if best else None,
                "flops": flops * (records[-1]["windows_seen"] if records else 0),
                "train_s": sum(r["seconds"].get(part, 0.0) for r in records for part in ("data", "step")),
            }
        )
    return entries


def _entry(trial: PlannedTrial, end: TrialEnd, result: FinalResult | None) -> Row:
    entry: dict[str, Any] = {
        "seed": trial.seed,
        "trial": trial.name,
        "status": end.ending.name,
        "reason": end.reason,
        "epochs": end.epoch,
    }
    if result is not None:
        figures = {key: result.metrics[key] for key in (DECISION_METRIC, NOVEL + "contain@50", "r@5")}
        entry |= {**figures, "best_epoch": result.checkpoint_epoch, "checkpoint_sha256": result.checkpoint_sha256}
    return entry


def lost_seeds(variants: Mapping[str, VariantEnd]) -> list[str]:
    """Say which variants' figures rest on fewer seeds than they were trained under."""
    fewer = [
        f"{name} on {len(found.survivors)} of {len(found.chosen)}"
        for name, found in variants.items()
        if found.survivors and len(found.survivors) < len(found.chosen)
    ]
    return [f"Figures of fewer seeds, those that survived: {', '.join(fewer)}."] if fewer else []
