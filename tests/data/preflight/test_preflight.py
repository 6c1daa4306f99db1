"""Every fault that was planted here is found, and the line that a person reads about it is the one written here."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data.payload.store import Payload
from data.preflight.check import Check, judge, table_of
from data.preflight.content import Targets
from data.preflight.run import blocking, run_preflight
from data.windows.table import Splits, WindowTable, build_windows, split_by_article
from tests.data.helpers import MakePayload, drifting_rows, unit_rows

SIZES = [6] * 300
NUM = sum(SIZES)
DIM = 16
VECTORS = drifting_rows(SIZES, DIM)


def windows_of(payload: Payload) -> Splits:
    table = build_windows(payload.article_index, payload.chunk_index, 2, 3)
    return split_by_article(table, 0.2, 0.2, seed=1)


@pytest.fixture
def payload(make_payload: MakePayload) -> Payload:
    return make_payload(SIZES, vectors=VECTORS)


def found(checks: list[Check]) -> list[str]:
    """Return the lines of what blocks a launch, numbers with a decimal point masked."""
    return [re.sub(r"-?\d+\.\d+(e[-+]\d+)?(?=[ ;])", "<number>", check.line()) for check in blocking(checks)]


def failures(checks: list[Check]) -> list[str]:
    return [check.name for check in blocking(checks)]


def targets_of(payload: Payload) -> Targets:
    return Targets(np.array(payload.vectors), np.array(payload.article_index), np.array(payload.chunk_index))


def changed(payload: Payload, change: Callable[[np.ndarray], np.ndarray]) -> Targets:
    return replace(targets_of(payload), vectors=change(np.array(payload.vectors)))


def test_a_sound_payload_passes_every_check_and_each_has_a_value(payload: Payload) -> None:
    checks = run_preflight(payload, windows_of(payload))
    assert failures(checks) == []
    values = {check.name: check.value for check in checks}
    assert values["finite"] == 0
    assert values["truth_cosine_mean"] == pytest.approx(1.0)
    assert values["key_coverage"] == values["oracle_recall"] == values["windows_consecutive"] == 1.0
    assert values["duplicate_rows"] == values["test_targets_in_train"] == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_either_type_of_storage_passes(make_payload: MakePayload, dtype: type) -> None:
    payload = make_payload(SIZES, vectors=VECTORS.astype(dtype))
    assert failures(run_preflight(payload, windows_of(payload))) == []


def with_row(row: int, vector: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arguments of a payload with one other vector."""
    vectors = VECTORS.copy()
    vectors[row] = vector
    return {"vectors": vectors}


def shuffled_chunks() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.permutation(size) for size in SIZES]).astype(np.int32)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            with_row(7, 1.01 * VECTORS[7]),
            [
                "preflight.unit_norm: expected <= 0.001, got <number> (largest |norm - 1|); "
                "divide each vector by its norm once, before the payload is written"
            ],
        ),
        (
            with_row(7, 30 * VECTORS[7]),
            [
                "preflight.unit_norm: ",
                "preflight.oracle_recall: expected == 1, got <number> (R@1 of 176 targets as queries, up to exact "
                "duplicates); a target does not find itself in the payload; check norms, NaN and metric",
            ],
        ),
        (
            with_row(7, np.full(DIM, np.nan)),
            [
                "preflight.finite: expected == 0, got 1; embed the corpus again; "
                "rows with NaN or infinity can never be found"
            ],
        ),
        (
            {"vectors": VECTORS, "chunk_index": shuffled_chunks()},
            [
                "preflight.chunk_order: expected >= 3, got <number> (standard errors by which the last context chunk "
                "is nearer than a random chunk of the article); neighbours are no more alike than any two chunks of an "
                "article; check that chunk_index is the reading order"
            ],
        ),
        (
            {"vectors": VECTORS[np.random.default_rng(0).permutation(NUM)]},
            ["preflight.last_context_cosine: ", "preflight.chunk_order: "],
        ),
        (
            {"vectors": np.repeat(VECTORS[:1], NUM, axis=0)},
            [
                "preflight.test_targets_in_train: expected <= 0.2, got 1 (test targets with an exact copy in train); ",
                "preflight.last_context_copies: ",
                "preflight.random_pair_cosine: ",
                "preflight.chunk_order: ",
            ],
        ),
    ],
    ids=["a norm", "a long vector", "a damaged row", "chunks shuffled", "vectors of other keys", "one vector for all"],
)
def test_a_fault_of_the_payload_is_named_as_what_it_is_and_as_nothing_else(
    make_payload: MakePayload, arguments: dict[str, np.ndarray], lines: list[str]
) -> None:
    payload = make_payload(SIZES, **arguments)
    checks = found(run_preflight(payload, windows_of(payload)))
    assert len(checks) == len(lines)
    assert all(line.startswith(expected) for line, expected in zip(checks, lines, strict=True)), checks


def rotated(vectors: np.ndarray) -> np.ndarray:
    return vectors @ np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0].astype(np.float32)


ENCODING = "the targets come from another encoding than the payload; embed both with one embedder, or realign them"
ORDER = "the targets are rows of this payload, {}; write vectors and keys in one order"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (rotated, ENCODING),
        (lambda vectors: np.concatenate([unit_rows(1000, DIM, seed=9), vectors[1000:]]), ENCODING),
        (lambda vectors: np.roll(vectors, -1, axis=0), ORDER.format("1 row after the ones that their keys name")),
        (lambda vectors: np.roll(vectors, 7, axis=0), ORDER.format("7 rows before the ones that their keys name")),
        (np.random.default_rng(0).permutation, ORDER.format("in another order than their keys")),
    ],
    ids=["rotated", "half of another encoding", "rolled by one", "rolled by seven", "mixed"],
)
def test_targets_that_are_not_the_rows_of_their_keys(
    payload: Payload, change: Callable[[np.ndarray], np.ndarray], hint: str
) -> None:
    assert found(run_preflight(payload, windows_of(payload), targets=changed(payload, change))) == [
        f"preflight.truth_cosine_mean: expected >= 0.98, got <number>; {hint}",
        f"preflight.truth_cosine_p5: expected >= 0.95, got <number>; {hint}",
    ]


def test_a_tenth_of_wrong_targets_shows_in_the_fifth_percentile(payload: Payload) -> None:
    targets = targets_of(payload)
    targets.vectors[: NUM // 10] = unit_rows(NUM // 10, DIM, seed=9)
    assert "truth_cosine_p5" in failures(run_preflight(payload, windows_of(payload), targets=targets))


def test_a_damaged_target_and_an_unknown_key_are_not_taken_for_another_encoding(payload: Payload) -> None:
    targets = targets_of(payload)
    targets.vectors[5, 2] = np.inf
    targets.chunk_index[3] = 99
    assert found(run_preflight(payload, windows_of(payload), targets=targets)) == [
        "preflight.key_coverage: expected == 1, got <number> (1 of 1800 truth keys missing); "
        "some targets name chunks that the payload lacks; build both from one corpus",
        "preflight.targets_finite: expected == 0, got 1; make the targets again; "
        "rows with NaN or infinity teach nothing",
    ]


def test_targets_of_another_dimension(payload: Payload) -> None:
    short = changed(payload, lambda vectors: vectors[:, :8])
    with pytest.raises(ValueError, match="targets: expected dimension 16 of the payload, got 8; embed both with one"):
        run_preflight(payload, windows_of(payload), targets=short)


def test_windows_that_skip_a_chunk(payload: Payload) -> None:
    splits = windows_of(payload)
    rows = splits.train.rows.copy()
    rows[0, 0] = rows[0, 1]
    skipping = replace(splits, train=WindowTable(rows, splits.train.article_index))
    assert "windows_consecutive" in failures(run_preflight(payload, skipping))


def test_repeats_are_reported_with_what_dropping_would_do_and_what_it_did(make_payload: MakePayload) -> None:
    vectors = VECTORS.copy()
    vectors[0::6] = vectors[0]  # the first chunk of each article is the same
    given = make_payload(SIZES, vectors=vectors)
    made = make_payload(SIZES, vectors=VECTORS, name="made", source={"repeats": {"repeats": 300, "chunks": 2100}})
    checks = [
        check for one in (given, made) for check in run_preflight(one, windows_of(one)) if "repeats" in check.name
    ]
    assert [(check.name, check.value, check.verdict, check.detail) for check in checks] == [
        (
            "repeats",
            pytest.approx(1 / 6, abs=0.02),
            "report",
            f"chunks with a near copy in another article; data.repeats: drop would take out about "
            f"{checks[0].value * 1800:.0f} of 1,800",
        ),
        (
            "repeats_dropped",
            1 / 7,
            "report",
            "300 of 2,100 chunks stood in several articles and were dropped",
        ),
    ]


def test_windows_that_were_left_out_are_counted(payload: Payload) -> None:
    checks = run_preflight(payload, replace(windows_of(payload), dropped={"val": 2, "test": 5}))
    (check,) = (check for check in checks if check.name == "windows_dropped")
    assert (check.value, check.detail) == (
        7,
        "windows that training holds chunk by chunk, left out: 2 of val, 5 of test",
    )


def test_a_table_of_another_payload(payload: Payload, make_payload: MakePayload) -> None:
    other = make_payload([7] * 250, name="other")
    lines = found(run_preflight(payload, windows_of(other)))
    assert lines[0] == (
        "preflight.windows_consecutive: expected == 1, got <number>; the windows belong to another payload; "
        "build them again"
    )
    assert any("truth_cosine_p5" in line for line in lines)


def test_an_index_of_another_payload(payload: Payload, make_payload: MakePayload) -> None:
    other = make_payload(SIZES, name="other", seed=1).provenance
    parts = {"index": {"sha256": other.sha256, "metric": "ip"}, "windows": {"sha256": payload.provenance.sha256}}
    mine, theirs = payload.provenance.sha256[:12], other.sha256[:12]
    assert found(run_preflight(payload, windows_of(payload), others=parts)) == [
        f"preflight.provenance: expected == 0, got 1 (index.sha256 is {theirs}, payload.sha256 is {mine}); "
        "build payload, windows and index from one embedding of one corpus"
    ]


def test_row_numbers_beyond_the_payload(payload: Payload, make_payload: MakePayload) -> None:
    larger = windows_of(make_payload([6] * 400, name="larger"))
    with pytest.raises(
        ValueError, match="windows: expected row numbers from 0 to 1799, got 0 to 2399; they belong to another payload"
    ):
        run_preflight(payload, larger)


def test_no_windows_at_all(payload: Payload) -> None:
    none = WindowTable(np.empty((0, 3), np.int32), np.empty(0, np.int32))
    with pytest.raises(ValueError, match="windows: expected windows in the splits, got none; build them from longer"):
        run_preflight(payload, Splits(none, none, none))


def with_windows(table: WindowTable, added: WindowTable) -> WindowTable:
    rows, articles = zip((table.rows, table.article_index), (added.rows, added.article_index), strict=True)
    return WindowTable(np.concatenate(rows), np.concatenate(articles))


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("train", "val", "validation measures memory"),
        ("train", "test", "the final table measures memory"),
        ("val", "test", "early stopping sees the final queries and measures memory"),
    ],
)
def test_an_article_in_two_splits_is_found_and_waived_by_the_name_of_both(
    payload: Payload, first: str, second: str, what: str
) -> None:
    splits = windows_of(payload)
    moved = getattr(splits, first).take(np.arange(1))
    both = replace(splits, **{second: with_windows(getattr(splits, second), moved)})
    name = f"article_overlap_{first}_{second}"
    assert found(run_preflight(payload, both)) == [
        f"preflight.{name}: expected == 0, got 1 (articles in both); "
        f"split by article; with windows of one article on both sides {what}"
    ]
    waived = run_preflight(payload, both, waive=[name])
    assert blocking(waived) == []
    assert [check.name for check in waived if check.waived] == [name]
    others = {f"article_overlap_{a}_{b}" for a, b in (("train", "val"), ("train", "test"), ("val", "test"))} - {name}
    assert failures(run_preflight(payload, both, waive=others)) == [name]


@pytest.mark.parametrize(
    ("num", "verdict", "limit"), [(1, "pass", 0.01), (2, "warn", 0.01), (35, "warn", 0.01), (36, "FAIL", 0.2)]
)
def test_copied_test_targets_warn_above_one_per_cent_and_fail_above_twenty(
    payload: Payload, num: int, verdict: str, limit: float
) -> None:
    splits = windows_of(payload)
    assert len(splits.test) == 176  # 44 articles
    moved = splits.test.take(4 * np.arange(num))  # the first window of an article holds one target, its own
    leaked = replace(splits, train=with_windows(splits.train, moved))
    checks = run_preflight(payload, leaked, waive=["article_overlap_train_test"])
    (check,) = (check for check in checks if check.name == "test_targets_in_train")
    assert (check.verdict, check.limit) == (verdict, limit)


def test_a_waived_name_that_passes_is_not_stamped(payload: Payload) -> None:
    checks = run_preflight(payload, windows_of(payload), waive=["article_overlap_train_val"])
    assert not any(check.waived for check in checks)


def test_an_unknown_name_cannot_be_waived(payload: Payload) -> None:
    with pytest.raises(ValueError, match=r"preflight.waive: expected names among provenance, .* got 'overlap'"):
        run_preflight(payload, windows_of(payload), waive=["overlap"])


def test_exact_copies_are_counted_and_do_not_break_the_oracle(make_payload: MakePayload) -> None:
    vectors = VECTORS.copy()
    vectors[1::6] = vectors[1]  # the second chunk of every article is the same
    payload = make_payload(SIZES, vectors=vectors)
    checks = {check.name: check for check in run_preflight(payload, windows_of(payload))}
    assert checks["duplicate_rows"].value == pytest.approx(300 / 1800)
    assert checks["oracle_recall"].passed
    # windows with L = 2 have the targets 2 to 5, and the copy is chunk 1
    assert checks["test_targets_in_train"].value == checks["near_duplicates_in_train"].value == 0.0


def test_copies_and_near_copies_of_test_targets_in_train_are_counted(make_payload: MakePayload) -> None:
    vectors = VECTORS.copy()
    vectors[5::6] = vectors[5]  # the last chunk of every article is the same, and the last of four targets
    vectors[4::6] = vectors[4] + 0.02 * unit_rows(300, DIM, seed=3)  # the one before is nearly the same
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    payload = make_payload(SIZES, vectors=vectors)
    checks = {check.name: check for check in run_preflight(payload, windows_of(payload))}
    assert checks["test_targets_in_train"].value == checks["val_targets_in_train"].value == 0.25
    assert checks["near_duplicates_in_train"].value == pytest.approx(0.5, abs=0.1)  # of a sample of 256


def test_a_payload_of_another_norm_or_metric(payload: Payload) -> None:
    payload.provenance = replace(payload.provenance, norm="none")
    assert found(run_preflight(payload, windows_of(payload))) == [
        "preflight.provenance: expected == 0, got 1 (the payload has norm none and metric ip, not l2_once and ip); "
        "build payload, windows and index from one embedding of one corpus"
    ]


def test_the_order_of_chunks_is_not_judged_on_few_windows(make_payload: MakePayload) -> None:
    few = make_payload(SIZES[:50], vectors=VECTORS[:300], name="few")
    assert "chunk_order" not in [check.name for check in run_preflight(few, windows_of(few))]


def test_the_table_has_a_verdict_for_each_check_and_what_to_do_for_a_failed_one(payload: Payload) -> None:
    lines = table_of(run_preflight(payload, windows_of(payload), targets=changed(payload, rotated))).splitlines()
    assert lines[1].split() == ["pass", "finite", "0", "==", "0"]
    assert next(line for line in lines if "truth_cosine_mean" in line).startswith("FAIL")
    assert sum("realign them" in line for line in lines) == 2
    assert next(line for line in lines if "duplicate_rows" in line).startswith("report")


def test_the_line_of_a_failed_check_has_value_limit_and_what_to_do() -> None:
    check = Check(name="x", value=0.14, limit=0.98, relation=">=", passed=False, hint="embed again")
    assert check.line() == "preflight.x: expected >= 0.98, got 0.14; embed again"


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [(584_545, 584_544, "== 584544, got 584545"), (0.12345, 1, "== 1, got 0.1235"), (math.nan, 0, "== 0, got nan")],
)
def test_whole_numbers_are_shown_in_full(value: float, limit: float, shown: str) -> None:
    assert judge("rows", value, "==", limit, "fix it").line() == f"preflight.rows: expected {shown}; fix it"
