"""The settings that a search tries: drawn from the experiment's space, the same draws for every variant.

What Optuna draws from how earlier settings did is in orchestrator/training/suggestions.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from data.errors import UserError
from data.seeding import derive_seed

RANGES = ("uniform", "loguniform")
Space = Mapping[str, Any]
"""By dotted key of a variant's entry a list of choices, or {uniform: [low, high]}, or {loguniform: [low, high]}."""


def check_space(space: Space, path: str) -> None:
    """Raise UserError, with the key's path, where a space has no choices to draw from."""
    if not space:
        raise UserError(f"{path}: expected keys to search, got none; e.g. {{training.optimizer.lr: [1.0e-4, 3.0e-4]}}")
    for key, domain in space.items():
        where = f"{path}.{key}"
        if isinstance(domain, list) and domain:
            continue
        kind, bounds = next(iter(domain.items()), ("", [])) if isinstance(domain, dict) else ("", [])
        if kind not in RANGES or len(domain) != 1 or not _is_range(bounds):
            raise UserError(
                f"{where}: expected a list of choices, {{uniform: [low, high]}} or {{loguniform: [low, high]}}, "
                f"got {domain!r:.60}; correct the domain"
            )
        if kind == "loguniform" and bounds[0] <= 0:
            raise UserError(f"{where}: expected a lower end above 0 for loguniform, got {bounds[0]}; raise it")


def _is_range(bounds: Any) -> bool:
    numbers = isinstance(bounds, list) and len(bounds) == 2
    return numbers and all(type(end) in (int, float) for end in bounds) and bounds[0] < bounds[1]


def draw_samples(space: Space, num: int, seed: int) -> list[dict[str, Any]]:
    """Return up to `num` different settings by dotted key: the whole grid where it is no larger, else spread draws.

    Each range is cut into `num` parts of which every setting gets another one, and each list is dealt out evenly, so
    few settings reach everywhere. Source: McKay, Beckman & Conover 1979 (Latin hypercube sampling). What a key gets
    depends on seed, number and key alone: variants that share a key try the same values of it.
    """
    if all(isinstance(domain, list) for domain in space.values()):
        grid = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
        if len(grid) <= num:
            return grid
    columns = {key: _spread(domain, num, derive_seed(seed, "search", num, key)) for key, domain in space.items()}
    drawn = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [one for place, one in enumerate(drawn) if one not in drawn[:place]]


def generation_sizes(space: Space, num: int, generation: int) -> list[int]:
    """Return how many of `num` settings each generation draws; of a grid that is smaller there are no more."""
    if all(isinstance(domain, list) for domain in space.values()):
        num = min(num, math.prod(map(len, space.values())))
    return [min(generation, num - start) for start in range(0, num, generation)]


def _spread(domain: Any, num: int, seed: int) -> list[Any]:
    """Return `num` values of one key, spread over its domain in a random order."""
    rng = np.random.default_rng(seed)
    if isinstance(domain, list):
        first = rng.permutation(len(domain))
        return [domain[first[place % len(domain)]] for place in rng.permutation(num)]
    ((kind, (low, high)),) = domain.items()
    places = (rng.permutation(num) + rng.random(num)) / num  # one in each part of 0 to 1
    if kind == "uniform":
        return [short(low + place * (high - low)) for place in places]
    return [short(math.exp(math.log(low) + place * (math.log(high) - math.log(low)))) for place in places]


def short(value: float) -> float:
    """Four significant digits: what a person would type to repeat it."""
    return float(f"{value:.4g}")


def with_settings(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variant's entry with values put in by their dotted keys."""
    found = dict(entry)
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place[section] = dict(place.get(section) or {})
            place = place[section]
        place[last] = value
    return found
