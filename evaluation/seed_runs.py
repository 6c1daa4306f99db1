"""Runs of one experiment under several seeds: loaded together, or refused because they do not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import MissingFileError, UserError
from data.windows.table import load_window_provenance, load_windows
from evaluation.compare import check_same_corpus
from evaluation.results import Arrays, load_all_arrays, load_results
from evaluation.statistics.significance import Float64, Outcomes

# What may differ between the runs of one experiment, beside the rows themselves.
_FREE = ("name", "seed", "run_dir", "tracking", "resources")
_FREE_DATA = ("cache_dir", "payload")


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One run's queries: the article of each, and every row's outcomes."""

    articles: npt.NDArray[np.int32]  # (Q,)
    rows: dict[str, Outcomes]

    def values(self, metrics: Sequence[str]) -> Float64:
        """(Q, rows * metrics) values whose means are the metrics, rows first."""
        return np.column_stack([outcomes.values(metric) for outcomes in self.rows.values() for metric in metrics])


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
    windows = arrays[names[0]].get("windows")
    for name in names:
        if windows is None or not np.array_equal(windows, arrays[name].get("windows", ())):
            raise UserError(
                f"{folder}: expected windows.npy with the same queries in every row, got none or others in {name}; "
                "evaluate the run again"
            )
    assert windows is not None
    rows = {name: Outcomes.of(arrays[name]) for name in names}
    return SeedRun(articles_of(folder, windows[:, -1]), rows)


def articles_of(folder: str | Path, targets: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The article of each target row (Q,), from the test windows that the run keeps.

    Raises:
        MissingFileError: the run kept no windows.
        UserError: a target is not one of theirs.
    """
    kept = Path(folder) / "windows"
    if not (kept / "windows.json").is_file():
        raise MissingFileError(
            f"{kept}: expected the run's windows, which say to which article a query belongs, got none; "
            "launch the run again with --fresh"
        )
    test = load_windows(kept, payload_sha256=load_window_provenance(kept).payload_sha256).test
    order = np.argsort(test.targets, kind="stable")
    place = order[np.minimum(np.searchsorted(test.targets, targets, sorter=order), len(order) - 1)]
    unknown = int((test.targets[place] != targets).sum())
    if unknown:
        raise UserError(
            f"{kept}: expected the run's queries among its test windows, got {unknown} of {len(targets)} that are not; "
            "launch the run again with --fresh"
        )
    found: npt.NDArray[np.int32] = test.article_index[place]
    return found


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
