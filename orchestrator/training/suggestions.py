"""`search.sampler: optuna`: each generation of settings is drawn from how those before it did, by Tune's OptunaSearch.

What it returns depends on its arguments alone: a study is made anew for each generation and told of all that was tried.
So no trial's settings hang on which of two others ended first, and a relaunch draws what the first launch drew.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from data.seeding import derive_seed
from orchestrator.config.experiment import by_sample
from orchestrator.config.search import Space, short
from orchestrator.state import Prepared, Trained
from orchestrator.training.halving import mean_score

ASKED_AGAIN = 10
"""Optuna may name settings twice: it is asked for so many times as many as are wanted."""

Tried = Sequence[tuple[Mapping[str, Any], float | None]]
"""Settings with their scores, more is better; None where a rule or an error ended them."""


def train_generations(
    prepared: Prepared, train: Callable[[Prepared], Trained], say: Callable[[str], None]
) -> tuple[Prepared, Trained]:
    """Train what is drawn, draw more from how it did, and so on; return the run with all its trials, and their ends."""
    trained = train(prepared)
    while (following := next_generation(prepared)) is not None:
        prepared = following
        say("search    further settings drawn from the scores so far")
        trained = train(prepared)
    return prepared, trained


def next_generation(prepared: Prepared) -> Prepared | None:
    """Draw what each variant's search tries next, and write it down; None where all settings are drawn."""
    config, ledger = prepared.config, prepared.ledger
    if config.search is None:
        return None
    drawn = {name: [*generations] for name, generations in config.drawn.items()}
    unfinished = {name for name, found in drawn.items() if len(found) < len(config.generations_of(name))}
    if not unfinished:
        return None
    for name in unfinished:
        number = len(drawn[name])
        drawn[name].append(
            suggest_settings(
                config.space_of(name),
                _tried(prepared, name),
                config.generations_of(name)[number],
                # Not from the variant: those that share a space and do equally well are given the same.
                seed=derive_seed(config.seed, "search", "generation", number),
            )
        )
    ledger.write_drawn(drawn)
    return replace(prepared, config=config.with_drawn(drawn))


def _tried(prepared: Prepared, variant: str) -> Tried:
    config, ledger = prepared.config, prepared.ledger
    selection = config.selection(config.resolved_variants[variant])
    samples = by_sample(config.trials_of(variant)).values()
    return [(trials[0].settings, mean_score(ledger, [one.name for one in trials], selection)) for trials in samples]


def suggest_settings(space: Space, tried: Tried, num: int, *, seed: int) -> list[dict[str, Any]]:
    """Return up to `num` new settings by dotted key; fewer where Optuna names only what was tried.

    Source: Bergstra et al. 2011 (tree-structured Parzen estimator), with the settings of the generation itself counted
    as poor ones until they are known, so that they spread.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=len(tried), constant_liar=True)
        study = OptunaSearch(_distributions(space), metric="score", mode="max", sampler=sampler)
        known = [score for _, score in tried if score is not None and not math.isnan(score)]
        for settings, score in tried if known else ():
            # What a rule or an error has ended is no better than the worst of the others.
            value = min(known) if score is None or math.isnan(score) else score
            study.add_evaluated_point(_places(space, settings), value)
        seen, found = [dict(settings) for settings, _ in tried], []
        for number in range(ASKED_AGAIN * num):
            settings = _settings(space, study.suggest(str(number)))
            if settings not in seen:
                seen.append(settings)
                found.append(settings)
            if len(found) == num:
                break
    return found


def _distributions(space: Space) -> dict[str, Any]:
    """Return each key's domain for Optuna; a list as the numbers of its choices, which may be of any type."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {}
    for key, domain in space.items():
        if isinstance(domain, list):
            found[key] = CategoricalDistribution(range(len(domain)))
        else:
            ((kind, (low, high)),) = domain.items()
            found[key] = FloatDistribution(low, high, log=kind == "loguniform")
    return found


def _places(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as Optuna knows them; a rounded value may lie just outside its range."""
    places = {}
    for key, domain in space.items():
        if isinstance(domain, list):
            places[key] = domain.index(settings[key])
        else:
            ((low, high),) = domain.values()
            places[key] = min(max(settings[key], low), high)
    return places


def _settings(space: Space, places: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: domain[places[key]] if isinstance(domain, list) else short(places[key]) for key, domain in space.items()
    }
