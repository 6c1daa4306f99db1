"""Runs of one experiment under several seeds: loaded together, or refused because they do not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import MissingFileError, UserError
from evaluation.queries import load_queries
from evaluation.results import Arrays, load_all_arrays, load_results
from evaluation.statistics.outcomes import Outcomes, Queries
from evaluation.studies.compare import check_same_corpus

# What may differ between the runs of one experiment, beside the rows themselves.
_FREE = ("name", "seed", "run_dir", "tracking", "resources")
_FREE_DATA = ("cache_dir", "payload")


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One run's queries, and every row's outcomes on them."""

    queries: Queries
    rows: dict[str, Outcomes]


def load_runs(folders: Sequence[str | Path]) -> list[SeedRun]:
    """Load runs that differ in their seed alone, their rows in the first one's order.

    Raises:
        MissingFileError, UserError: in one line, naming the run that does not fit.
    """
    results = [load_results(folder) for folder in folders]
    arrays = [load_all_arrays(folder, one["rows"]) for folder, one in zip(folders, results, strict=True)]
    for place, folder in enumerate(folders[1:], start=1):
        check_same_corpus(results[0]["protocol"], results[place]["protocol"], folders[0], folder)
        _check_same_rows(arrays[0], arrays[place], folders[0], folder)
        _check_same_rows(arrays[place], arrays[0], folder, folders[0])
        _check_same_recipe(folders[0], folder)
    _check_seeds([one["protocol"].get("seed") for one in results], folders)
    return [_seed_run(folder, one, list(arrays[0])) for folder, one in zip(folders, arrays, strict=True)]


def _seed_run(folder: str | Path, arrays: dict[str, Arrays], names: list[str]) -> SeedRun:
    if not names:
        raise UserError(f"{folder}: expected rows with per-query arrays, got none; let the run finish")
    return SeedRun(load_queries(folder).known, {name: Outcomes.of(arrays[name]) for name in names})


def _check_same_rows(expected: dict[str, Arrays], found: dict[str, Arrays], a: str | Path, b: str | Path) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise UserError(
            f"{b}: expected the rows of {a}, got no final figures of {', '.join(missing)}; "
            "launch both with the same variants and let them finish"
        )


def _check_same_recipe(a: str | Path, b: str | Path) -> None:
    first, second = _recipe(a), _recipe(b)
    for key in first.keys() | second.keys():
        if first.get(key) != second.get(key):
            raise UserError(
                f"{b}: expected the configuration of {a} but for the seed, got another {key} in its config.yaml; "
                "launch both with the same experiment file and options"
            )


def _recipe(folder: str | Path) -> dict[str, Any]:
    import yaml

    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise MissingFileError(f"{path}: expected the configuration of a run, got no file; name a run folder")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = {key: value for key, value in content.items() if key not in _FREE}
    recipe["data"] = {key: value for key, value in recipe["data"].items() if key not in _FREE_DATA}
    return recipe


def _check_seeds(seeds: Sequence[int | None], folders: Sequence[str | Path]) -> None:
    for place, seed in enumerate(seeds):
        if seed in seeds[:place]:
            raise UserError(
                f"{folders[place]}: expected another seed than {folders[seeds.index(seed)]}, got {seed} again; "
                f"launch it with --set seed={max(one or 0 for one in seeds) + 1}"
            )
