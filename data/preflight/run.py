"""Checks before anything trains: is what the models learn from what the index holds?

The failure that this guards against: targets from another encoding than the payload, a fine validation cosine, and not
one target found. Every check has a value, a limit, a verdict and what to do. A failed one stops the launch unless it is
waived by name.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from data.errors import UserError
from data.payload.store import Payload
from data.preflight.check import Check, report
from data.preflight.content import (
    Targets,
    check_oracle,
    check_repeats,
    check_splits,
    check_targets,
    check_vectors,
    check_windows,
    own_targets,
)
from data.preflight.geometry import check_near_duplicates, check_neighbours
from data.preflight.provenance import check_provenance
from data.seeding import derive_seed
from data.windows.table import WINDOWS_FOLDER, Splits, load_window_provenance


def run_preflight(
    payload: Payload,
    splits: Splits,
    *,
    targets: Targets | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    waive: Collection[str] = (),
    later: Collection[str] = (),
) -> list[Check]:
    """Run every check of the data; nothing is raised for a failed one, see `blocking`.

    Args:
        payload: The corpus.
        splits: Its windows.
        targets: Targets that came as vectors (files of another program); by default the windows' own targets.
        others: Provenance of other parts by their name, see `data.preflight.provenance`.
        seed: Seed of the samples.
        waive: Names of checks that may fail; they stay in the list, stamped.
        later: Names of checks that others make, which `waive` may hold too.

    Raises:
        UserError: a name in `waive` is no check.
    """
    rng = np.random.default_rng(derive_seed(seed, "preflight"))
    checks = check_provenance(payload, others or {})
    checks += check_vectors(payload)
    checks += check_windows(payload, splits)
    checks += check_targets(payload, targets if targets is not None else own_targets(payload, splits, rng))
    checks += check_splits(payload, splits)
    checks += check_oracle(payload, splits, rng)
    checks += check_neighbours(payload, splits, rng)
    checks += check_near_duplicates(payload, splits, rng)
    checks += check_repeats(payload, rng)
    _check_names(waive, [*(check.name for check in checks), *later])
    return stamp_waived(checks, waive)


def check_alignment(payload: Payload) -> list[Check]:
    """Report how the vectors in the sequence files, which were replaced by row numbers, agreed with the payload."""
    folder = payload.path / WINDOWS_FOLDER
    if not (folder / "windows.json").is_file():
        return []
    found = load_window_provenance(folder).alignment
    return [
        report(f"{split}.{name}", float(facts[name]), f"of {facts['file']}{', realigned' * facts['realigned']}")
        for split, facts in found.items()
        for name in ("target_cosine_mean", "context_cosine_mean")
    ]


def blocking(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that stop a launch."""
    return [check for check in checks if check.blocks]


def stamp_waived(checks: list[Check], waive: Collection[str]) -> list[Check]:
    """Mark the failed checks whose names are waived."""
    return [replace(check, waived=check.name in waive and not check.passed) for check in checks]


def _check_names(waive: Collection[str], names: Collection[str]) -> None:
    for name in waive:
        if name not in names:
            raise UserError(f"preflight.waive: expected names among {', '.join(names)}, got {name!r}; correct the name")
