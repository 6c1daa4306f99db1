"""The checks of the preflight on payload, windows and targets; plain numpy, in blocks."""

from dataclasses import dataclass

import numpy as np

from data.corpus.repeats import sample_repeats
from data.errors import UserError
from data.figures import finite, mean, paired_cosine, percentile
from data.payload.duplicates import duplicate_ids
from data.payload.keys import Int32, KeyIndex
from data.payload.store import Payload, Vectors
from data.preflight.cause import Strays, hint_for
from data.preflight.check import Check, judge, report
from data.windows.table import Splits, take_sample

_NORM_TOLERANCE = {"float32": 1e-3, "float16": 5e-3}
_ROUNDING = {"float32": 1e-5, "float16": 2e-3}  # of one inner product of unit rows stored in this type
_OVERLAPS = (
    ("train", "val", "validation measures"),
    ("train", "test", "the final table measures"),
    ("val", "test", "early stopping sees the final queries and measures"),
)
_MANY_COPIED, _MOST_COPIED = 0.01, 0.20
_SAMPLE_TARGETS = 5_000
_SAMPLE_ORACLE = 256
_BLOCK_ROWS = 8_192
_ENCODING = "the targets come from another encoding than the payload; embed both with one embedder, or realign them"


@dataclass(frozen=True, eq=False, slots=True)
class Targets:
    """Target vectors from outside the payload with the truth keys that say which chunk each one is."""

    vectors: Vectors
    """(M, D)"""
    article_index: Int32
    """(M,)"""
    chunk_index: Int32
    """(M,)"""


def check_vectors(payload: Payload) -> list[Check]:
    """Check that all numbers are finite and all rows have norm 1, reading the vectors once in blocks."""
    num_bad, worst = 0, 0.0
    for start in range(0, payload.num_rows, _BLOCK_ROWS):
        block = np.asarray(payload.vectors[start : start + _BLOCK_ROWS], np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        finite = np.isfinite(norms)
        num_bad += int(np.count_nonzero(~finite))
        worst = max(worst, float(np.abs(norms[finite] - 1.0).max(initial=0.0)))
    return [
        judge("finite", num_bad, "==", 0, "embed the corpus again; rows with NaN or infinity can never be found"),
        judge(
            "unit_norm",
            worst,
            "<=",
            _NORM_TOLERANCE[str(payload.vectors.dtype)],
            "divide each vector by its norm once, before the payload is written",
            detail="largest |norm - 1|",
        ),
    ]


def check_windows(payload: Payload, splits: Splits) -> list[Check]:
    """Check that every window is L + 1 consecutive chunks of one article of this payload."""
    num_windows = sum(len(table) for _, table in splits.items())
    if not num_windows:
        raise UserError("windows: expected windows in the splits, got none; build them from longer articles")
    num_good = 0
    for _, table in splits.items():
        rows = table.rows
        if rows.size and (rows.min() < 0 or rows.max() >= payload.num_rows):
            raise UserError(
                f"windows: expected row numbers from 0 to {payload.num_rows - 1}, got {rows.min()} to {rows.max()}; "
                "they belong to another payload, build them again"
            )
        same = (payload.article_index[rows] == table.article_index[:, None]).all(axis=1)
        consecutive = (np.diff(payload.chunk_index[rows], axis=1) == 1).all(axis=1)
        num_good += int(np.count_nonzero(same & consecutive))
    share = num_good / num_windows
    return [
        judge("windows_consecutive", share, "==", 1.0, "the windows belong to another payload; build them again"),
    ]


def check_targets(payload: Payload, targets: Targets) -> list[Check]:
    """Compare each target with the payload row that its truth key names: the same chunk must have the same vector."""
    if targets.vectors.shape[1] != payload.dim:
        raise UserError(
            f"targets: expected dimension {payload.dim} of the payload, got {targets.vectors.shape[1]}; "
            "embed both with one embedder"
        )
    rows = KeyIndex(payload.article_index, payload.chunk_index).rows(targets.article_index, targets.chunk_index)
    known = rows >= 0
    given, own = targets.vectors[known], rows[known]
    cosine = paired_cosine(given, payload.vectors[own])
    hint = hint_for(Strays.of(given, own, cosine), payload, "targets", _ENCODING)
    return [
        judge(
            "key_coverage",
            mean(known),
            "==",
            1.0,
            "some targets name chunks that the payload lacks; build both from one corpus",
            detail=f"{int(np.count_nonzero(~known))} of {len(rows)} truth keys missing",
        ),
        judge(
            "targets_finite",
            int(np.count_nonzero(~np.isfinite(given).all(axis=1))),
            "==",
            0,
            "make the targets again; rows with NaN or infinity teach nothing",
        ),
        judge("truth_cosine_mean", mean(finite(cosine)), ">=", 0.98, hint),
        judge("truth_cosine_p5", percentile(finite(cosine), 5), ">=", 0.95, hint),
    ]


def check_splits(payload: Payload, splits: Splits) -> list[Check]:
    """Check that no article is in two splits, and report how many chunks are exact copies of others."""
    articles = {name: np.unique(table.article_index) for name, table in splits.items()}
    ids = duplicate_ids(payload.vectors)
    train_ids = np.unique(ids[splits.train.rows])
    checks = [
        judge(
            f"article_overlap_{first}_{second}",
            len(np.intersect1d(articles[first], articles[second])),
            "==",
            0,
            f"split by article; with windows of one article on both sides {measures} memory",
            detail="articles in both",
        )
        for first, second, measures in _OVERLAPS
    ]
    checks += [
        report("duplicate_rows", mean(np.bincount(ids, minlength=len(ids))[ids] > 1), "chunks with an exact copy"),
    ]
    in_train = {name: mean(np.isin(ids[table.targets], train_ids)) for name, table in splits.items()[1:]}
    checks.append(report("val_targets_in_train", in_train["val"], "val targets with an exact copy in train"))
    return [*checks, _check_copied_targets(in_train["test"]), *_report_dropped(splits)]


def _check_copied_targets(share: float) -> Check:
    """Warn above 1 %, fail above 20 %: to find a copy of what was trained on is memory."""
    failed = not share <= _MOST_COPIED
    return judge(
        "test_targets_in_train",
        share,
        "<=",
        _MOST_COPIED if failed else _MANY_COPIED,
        "these targets can be found by memory; drop them with data.repeats: drop",
        detail="test targets with an exact copy in train",
        warning=not failed,
    )


def _report_dropped(splits: Splits) -> list[Check]:
    counts = ", ".join(f"{num} of {name}" for name, num in splits.dropped.items())
    detail = f"windows that training holds chunk by chunk, left out: {counts}"
    return [report("windows_dropped", sum(splits.dropped.values()), detail)] if splits.dropped else []


def check_oracle(payload: Payload, splits: Splits, rng: np.random.Generator) -> list[Check]:
    """Search the targets themselves by brute force: each must find itself, or an exact copy of itself, first.

    The test is on scores: nothing may score above the target by more than rounding. A row that does is another vector
    with a larger inner product, so the metric and the norms do not fit together.
    """
    rows = take_sample(splits.test if len(splits.test) else splits.train, _SAMPLE_ORACLE, rng).targets
    queries = np.asarray(payload.vectors[rows], np.float32)
    own = np.einsum("qd,qd->q", queries, queries)
    best = np.full(len(rows), -np.inf, np.float32)
    for start in range(0, payload.num_rows, _BLOCK_ROWS):
        block = np.asarray(payload.vectors[start : start + _BLOCK_ROWS], np.float32)
        best = np.fmax(best, np.nan_to_num(queries @ block.T, nan=-np.inf).max(axis=1))  # `finite` judges NaN
    tolerance = _ROUNDING[str(payload.vectors.dtype)]
    return [
        judge(
            "oracle_recall",
            mean((best <= own + tolerance)[np.isfinite(own)]),
            "==",
            1.0,
            "a target does not find itself in the payload; check norms, NaN and metric",
            detail=f"R@1 of {len(rows)} targets as queries, up to exact duplicates",
        )
    ]


def check_repeats(payload: Payload, rng: np.random.Generator) -> list[Check]:
    """Report how many chunks stand in several articles, or how many were taken out when the payload was made."""
    made = payload.provenance.source.get("repeats")
    if made:
        detail = f"{made['repeats']:,} of {made['chunks']:,} chunks stood in several articles and were dropped"
        return [report("repeats_dropped", made["repeats"] / made["chunks"], detail)]
    found = sample_repeats(payload, rng)
    share = mean(found)
    asked = "" if len(found) == payload.num_rows else f" (a sample of {len(found):,})"
    detail = f"chunks with a near copy in another article{asked}; data.repeats: drop would take out "
    return [report("repeats", share, f"{detail}about {share * payload.num_rows:,.0f} of {payload.num_rows:,}")]


def own_targets(payload: Payload, splits: Splits, rng: np.random.Generator) -> Targets:
    """Take a sample of the windows' targets, each with the key that its window claims, not the key of its row."""
    picked = [take_sample(table, _SAMPLE_TARGETS, rng) for _, table in splits.items()]
    rows = np.concatenate([table.targets for table in picked])
    first = np.concatenate([table.rows[:, 0] for table in picked])
    length = picked[0].rows.shape[1] - 1
    articles = np.concatenate([table.article_index for table in picked])
    return Targets(payload.vectors[rows], articles, payload.chunk_index[first] + np.int32(length))
