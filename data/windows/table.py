"""Windows: L consecutive chunks of one article and the chunk after them, as row numbers of the payload.

A target is a row of the payload, never a copied vector, so it is aligned with what is searched by construction.
Letters: W windows, L context length, N payload rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import MissingFileError, UserError
from data.io import read_json, write_json
from data.output import output_folder
from data.payload.keys import Int32, combine
from data.seeding import derive_seed

WINDOWS_FOLDER = "windows"  # inside a payload folder
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False, slots=True)
class WindowTable:
    """W windows: `rows` (W, L + 1) int32, the last column is the target; `article_index` (W,) int32."""

    rows: Int32
    article_index: Int32

    def __len__(self) -> int:
        """Return the number of windows, W."""
        return len(self.rows)

    @property
    def targets(self) -> Int32:
        """Return the payload row of each target, (W,) int32."""
        return self.rows[:, -1]

    def take(self, positions: NDArray[np.int64] | NDArray[np.bool_]) -> "WindowTable":
        """Return the windows at these positions (or where this mask is true)."""
        return WindowTable(self.rows[positions], self.article_index[positions])


@dataclass(frozen=True, eq=False, slots=True)
class Splits:
    """Three window tables that share no article."""

    train: WindowTable
    val: WindowTable
    test: WindowTable
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Windows of val and test that were left out by `drop_known`."""

    def items(self) -> list[tuple[str, WindowTable]]:
        """Return the tables with their names, train first."""
        return [(name, getattr(self, name)) for name in _SPLITS]


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowProvenance:
    """What a saved window table was built from; a table only fits the payload with this sha256."""

    payload_sha256: str
    context_length: int
    min_article_chunks: int
    origin: Literal["payload", "files"] = "payload"
    """payload: every run of L + 1 chunks, split by a hash of the article. files: as train, val and eval files say."""
    seed: int | None = None
    alignment: Mapping[str, Any] = field(default_factory=dict)
    """How well the vectors in the files agreed with the payload, by file."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """As in `Splits`; taken from there."""


def build_windows(
    article_index: Int32, chunk_index: Int32, context_length: int, min_article_chunks: int
) -> WindowTable:
    """Build every window of L + 1 consecutive chunk numbers; nothing crosses a gap or an article.

    An article with n >= min_article_chunks chunks in one run gives n - L windows. Payload rows may be in any order; the
    windows come out sorted by (article, chunk).

    Raises:
        UserError: two rows have the same truth key.
    """
    keys = combine(article_index, chunk_index)
    order = np.argsort(keys, kind="stable")
    steps = np.diff(keys[order])  # 1 inside a run; larger across a gap or an article
    if np.any(steps == 0):
        raise UserError(
            f"chunk_index: expected one row for each truth key, got {np.count_nonzero(steps == 0)} duplicate keys; "
            "drop the repeated chunks or number them again"
        )
    articles = article_index[order]
    run = np.concatenate([[0], np.cumsum(steps != 1)])
    last = len(order) - context_length
    starts = np.flatnonzero(run[: max(0, last)] == run[context_length:])
    starts = starts[_article_sizes(articles)[starts] >= min_article_chunks]
    rows = np.empty((len(starts), context_length + 1), np.int32)
    for column in range(context_length + 1):  # column by column: no (W, L + 1) int64 in between
        rows[:, column] = order[starts + column]
    return WindowTable(rows, articles[starts].astype(np.int32))


def split_by_article(table: WindowTable, val: float = 0.1, test: float = 0.1, *, seed: int) -> Splits:
    """Put each article's windows into one of three splits by a seeded hash of the article's number.

    The choice depends on the article and the seed alone: articles added later move no other article.

    Raises:
        UserError: a split with a share above 0 got no window.
    """
    place = _unit_hash(table.article_index, derive_seed(seed, "split"))
    in_val, in_test = place < val, (place >= val) & (place < val + test)
    splits = Splits(table.take(~in_val & ~in_test), table.take(in_val), table.take(in_test))
    for (name, part), share in zip(splits.items(), (1.0 - val - test, val, test), strict=True):
        if share > 0 and not len(part):
            raise UserError(
                f"{name}: expected windows in a split of {share:.0%} of the articles, got none of {len(table)} "
                f"windows in {len(np.unique(table.article_index))} articles; give more articles or another seed"
            )
    return splits


def take_train_share(splits: Splits, share: float, *, seed: int) -> Splits:
    """Keep a share of the training articles, and all validation and test windows: a point of a learning curve.

    The articles of a smaller share are among those of a larger one. UserError: no window is left.
    """
    if share == 1.0:
        return splits
    kept = _unit_hash(splits.train.article_index, derive_seed(seed, "train share")) < share
    if not kept.any():
        raise UserError(f"train_share: expected a share that keeps an article, got {share}; raise it")
    return replace(splits, train=splits.train.take(kept))


def drop_known(splits: Splits, ids: Int32) -> Splits:
    """Leave out the validation and test windows whose chunks, context and target, all stand in one training window.

    Args:
        splits: Windows of a payload of N rows.
        ids: (N,) smallest row with the same vector, see data.payload.duplicates.

    Raises:
        UserError: nothing is left of a split.
    """
    known = {window.tobytes() for window in ids[splits.train.rows]}
    kept, dropped = {}, {}
    for name in ("val", "test"):
        table = getattr(splits, name)
        new = np.array([window.tobytes() not in known for window in ids[table.rows]], bool)
        if len(table) and not new.any():
            raise UserError(
                f"{name}: expected windows that training does not hold, got {len(table)} copies; "
                "take repeated articles out of the corpus"
            )
        kept[name], dropped[name] = table.take(new), int(np.count_nonzero(~new))
    return replace(splits, **kept, dropped=dropped)


def sample_queries(table: WindowTable, num: int | None, seed: int) -> WindowTable:
    """Draw `num` windows without replacement, in the table's order; the whole table if num is None or larger."""
    if num is None or num >= len(table):
        return table
    return take_sample(table, num, np.random.default_rng(derive_seed(seed, "queries", num)))


def take_sample(table: WindowTable, num: int, rng: np.random.Generator) -> WindowTable:
    """Draw `num` windows without replacement, in the table's order; the whole table if it has no more."""
    if len(table) <= num:
        return table
    return table.take(np.sort(rng.choice(len(table), num, replace=False)))


def save_windows(folder: str | Path, splits: Splits, provenance: WindowProvenance) -> None:
    """Write the splits as npy files with their provenance, as one folder: all of it, or nothing."""
    with output_folder(folder, "windows") as target:
        for name, table in splits.items():
            np.save(target / f"{name}_rows.npy", table.rows)
            np.save(target / f"{name}_article_index.npy", table.article_index)
        write_json(target / "windows.json", {**asdict(provenance), "dropped": splits.dropped})


def load_windows(folder: str | Path, *, payload_sha256: str) -> Splits:
    """Read splits written by `save_windows`.

    Raises:
        MissingFileError: no windows.json in the folder.
        UserError: the windows were built from another payload.
    """
    source = Path(folder)
    if not (source / "windows.json").is_file():
        raise MissingFileError(
            f"{source}: expected windows.json, got none; build the windows with python -m data.build"
        )
    provenance = load_window_provenance(source)
    if provenance.payload_sha256 != payload_sha256:
        raise UserError(
            f"{source}: expected windows of payload {payload_sha256[:12]}, got windows of payload "
            f"{provenance.payload_sha256[:12]}; row numbers fit one payload only, build the windows again"
        )
    train, val, test = (
        WindowTable(np.load(source / f"{name}_rows.npy"), np.load(source / f"{name}_article_index.npy"))
        for name in _SPLITS
    )
    return Splits(train, val, test, provenance.dropped)


def load_window_provenance(folder: str | Path) -> WindowProvenance:
    """Read what a folder of windows was built from."""
    return WindowProvenance(**read_json(Path(folder) / "windows.json"))


def _article_sizes(articles: Int32) -> NDArray[np.int64]:
    """Return for each row of a sorted column the number of rows of its article."""
    _, inverse, counts = np.unique(articles, return_inverse=True, return_counts=True)
    sizes: NDArray[np.int64] = counts[inverse]
    return sizes


def _unit_hash(values: Int32, seed: int) -> NDArray[np.float64]:
    """Map each number to [0, 1) by splitmix64 (Steele, Lea, Flood 2014, the finaliser), mixed with a seed."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
