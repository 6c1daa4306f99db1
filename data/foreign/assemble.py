"""Assemble a payload folder with its window table from foreign files, or from a payload by the window rule."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError, check_range
from data.figures import finite, mean, percentile
from data.foreign.formats import import_payload
from data.foreign.sequences import AlignedSequences, read_sequences
from data.output import output_folder
from data.payload.store import KIND, UNKNOWN_EMBEDDER, Payload, open_payload
from data.preflight.cause import SAME_COSINE, hint_for
from data.preflight.check import Check, judge, report
from data.preflight.provenance import same_embedder
from data.windows.table import (
    WINDOWS_FOLDER,
    Splits,
    WindowProvenance,
    WindowTable,
    build_windows,
    save_windows,
    split_by_article,
)

_REALIGN = "embed both with one embedder, or use the payload's own rows instead with realign: true (--realign)"


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceFiles:
    """The three files of sequences; all or none are given."""

    train: Path
    val: Path
    test: Path

    def items(self) -> list[tuple[str, Path]]:
        """Return split names with their files, train first."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]


_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class CutRule:
    """How windows are cut when no files say so."""

    context_length: int = 5
    min_article_chunks: int = 10
    val_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no window could be cut by."""
        check_range("--context-length", self.context_length, 1, 10_000)
        check_range("--min-article-chunks", self.min_article_chunks, 1)
        check_range("--val-share", self.val_share, 1e-9, 0.999)
        check_range("--test-share", self.test_share, 1e-9, 0.999 - self.val_share)
        check_range("--seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, eq=False, slots=True)
class Built:
    """A payload folder with its windows, and what was found on the way."""

    payload: Payload
    splits: Splits
    checks: list[Check]
    summary: str


def build(
    source: Path,
    out: Path,
    *,
    keys: Path | None = None,
    embedder: str | None = None,
    files: SequenceFiles | None = None,
    realign: bool = False,
    rule: CutRule | None = None,
) -> Built:
    """Build the payload folder `out` with `out/windows`; nothing is left behind when something is refused.

    Raises:
        MissingFileError: a file is missing.
        UserError: `out` holds what we did not make, a file is damaged, or its vectors are not those of the payload and
            `realign` is false.
    """
    sources = [source, *([keys] if keys is not None else []), *(path for _, path in (files.items() if files else []))]
    with output_folder(out, KIND, sources) as building:
        payload = import_payload(source, building, keys=keys, embedder=embedder)
        _check_vectors(source, payload)
        if files is not None:
            splits, provenance, checks = _windows_of_files(payload, files, realign=realign)
        else:
            splits, provenance = _windows_by_rule(payload, rule or CutRule())
            checks = []
        save_windows(building / WINDOWS_FOLDER, splits, provenance)
        summary = _summary(payload, splits, provenance)
    return Built(open_payload(out), splits, checks, summary)


def _check_vectors(source: Path, payload: Payload) -> None:
    """Refuse vectors that are no numbers, or zero: nothing can be told from them, and no search finds them."""
    num_bad = 0
    for start in range(0, payload.num_rows, _ROWS_AT_ONCE):
        squares = np.square(payload.vectors[start : start + _ROWS_AT_ONCE], dtype=np.float32).sum(axis=1)
        num_bad += int((~((squares > 0.0) & (squares < np.inf))).sum())
    if num_bad:
        raise UserError(
            f"{source}: expected vectors of finite numbers that are not all zero, got {num_bad:,} others of "
            f"{payload.num_rows:,}; leave these chunks out, or embed them again"
        )


def sequence_checks(split: str, aligned: AlignedSequences, payload: Payload, *, realign: bool) -> list[Check]:
    """Judge one file of sequences against the payload; with `realign` only its truth keys can fail."""
    coverage = judge(
        f"{split}.key_coverage",
        1.0 - aligned.num_without_target / max(1, aligned.num_given),
        "==",
        1.0,
        "build the payload and the file from one corpus",
        detail=f"{aligned.num_without_target} of {aligned.num_given} truth keys are not in the payload",
    )
    others = [_embedder_check(split, aligned, payload), *_vector_checks(split, aligned, payload)]
    if realign:
        return [coverage, *(report(check.name, check.value, check.detail) for check in others)]
    return [coverage, *others]


def _embedder_check(split: str, aligned: AlignedSequences, payload: Payload) -> Check:
    mine, given = payload.provenance.embedder, aligned.provenance.get("embedder", UNKNOWN_EMBEDDER)
    return judge(
        f"{split}.embedder",
        float(same_embedder(mine, given)),
        "==",
        1.0,
        "embed both with one embedder, or call it by one name with embedder: (--embedder)",
        detail=f"the payload is from {mine}, the file from {given}",
    )


def _vector_checks(split: str, aligned: AlignedSequences, payload: Payload) -> list[Check]:
    """Judge whether the vectors in the file are the payload's rows; damaged ones are counted and not compared."""
    target, context = finite(aligned.target_cosine), finite(aligned.context_cosine)
    target_hint = hint_for(aligned.target_strays, payload, "targets", _REALIGN)
    context_hint = hint_for(aligned.context_strays, payload, "contexts", _REALIGN)
    detail = f"{aligned.num_strange_contexts} of {len(aligned.table)} contexts are not the payload's, "
    detail += f"mean cosine {mean(context):.3f}"
    return [
        judge(
            f"{split}.finite",
            aligned.num_damaged,
            "==",
            0,
            "write the file again, or use the payload's own rows instead with realign: true (--realign)",
            detail="sequences with NaN or infinity",
        ),
        judge(f"{split}.truth_cosine_mean", mean(target), ">=", 0.98, target_hint),
        judge(f"{split}.truth_cosine_p5", percentile(target, 5), ">=", 0.95, target_hint),
        judge(f"{split}.context_cosine_min", percentile(context, 0), ">=", SAME_COSINE, context_hint, detail=detail),
        judge(
            f"{split}.context_missing",
            aligned.num_without_context,
            "==",
            0,
            "leave them out with realign: true (--realign)",
            detail="targets without their chunks of context in the payload",
        ),
    ]


def _windows_of_files(
    payload: Payload, files: SequenceFiles, *, realign: bool
) -> tuple[Splits, WindowProvenance, list[Check]]:
    tables: dict[str, WindowTable] = {}
    checks: list[Check] = []
    alignment: dict[str, Any] = {}
    for split, path in files.items():
        aligned = read_sequences(path, payload)
        found = sequence_checks(split, aligned, payload, realign=realign)
        for check in found:
            if not check.passed:
                raise UserError(f"{path}: {check.line()}")
        tables[split] = aligned.table
        checks += found
        alignment[split] = {
            "file": path.name,
            "provenance": aligned.provenance,
            "given": aligned.num_given,
            "used": len(aligned.table),
            "target_cosine_mean": mean(aligned.target_cosine),
            "context_cosine_mean": mean(aligned.context_cosine),
            "contexts_not_of_the_payload": aligned.num_strange_contexts,
            "realigned": realign,
        }
    lengths = {split: table.rows.shape[1] - 1 for split, table in tables.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{files.train}: expected one context length in all files, got {lengths}; cut them again")
    provenance = WindowProvenance(
        payload_sha256=payload.provenance.sha256,
        context_length=lengths["train"],
        min_article_chunks=0,
        origin="files",
        alignment=alignment,
    )
    return Splits(tables["train"], tables["val"], tables["test"]), provenance, checks


def _windows_by_rule(payload: Payload, rule: CutRule) -> tuple[Splits, WindowProvenance]:
    table = build_windows(payload.article_index, payload.chunk_index, rule.context_length, rule.min_article_chunks)
    splits = split_by_article(table, rule.val_share, rule.test_share, seed=rule.seed)
    provenance = WindowProvenance(
        payload_sha256=payload.provenance.sha256,
        context_length=rule.context_length,
        min_article_chunks=rule.min_article_chunks,
        seed=rule.seed,
    )
    return splits, provenance


def _summary(payload: Payload, splits: Splits, provenance: WindowProvenance) -> str:
    """Say what was used and what was skipped, one line each."""
    used = np.unique(np.concatenate([table.article_index for _, table in splits.items()]))
    counts = ", ".join(f"{name} {len(table):,}" for name, table in splits.items())
    articles = ", ".join(f"{name} {len(np.unique(table.article_index)):,}" for name, table in splits.items())
    return "\n".join(
        [
            f"payload   {payload.num_rows:,} chunks, dimension {payload.dim}, {payload.vectors.dtype}, "
            f"embedder {payload.provenance.embedder}, sha256 {payload.provenance.sha256[:12]}",
            f"articles  {len(used):,} used ({articles}), {payload.num_articles - len(used):,} skipped",
            f"windows   {sum(len(table) for _, table in splits.items()):,} ({counts}), "
            f"context {provenance.context_length}, from {provenance.origin}",
        ]
    )
