from dataclasses import replace

import numpy as np
import pytest

from data.check import Check
from data.payload import Payload
from data.preflight import Targets, blocking, run_preflight
from data.windows import Splits, WindowTable, build_windows, split_by_article
from tests.data.helpers import MakePayload, unit_rows


def windows_of(payload: Payload) -> Splits:
    table = build_windows(payload.article_index, payload.chunk_index, 2, 3)
    return split_by_article(table, 0.2, 0.2, seed=1)


@pytest.fixture
def payload(make_payload: MakePayload) -> Payload:
    return make_payload([6] * 50)


def failures(checks: list[Check]) -> list[str]:
    return [check.name for check in blocking(checks)]


def targets_of(payload: Payload) -> Targets:
    return Targets(np.array(payload.vectors), np.array(payload.article_index), np.array(payload.chunk_index))


def test_a_sound_payload_passes_every_check_and_each_has_a_value(payload: Payload) -> None:
    checks = run_preflight(payload, windows_of(payload))
    assert failures(checks) == []
    values = {check.name: check.value for check in checks}
    assert values["finite"] == 0
    assert values["truth_cosine_mean"] == pytest.approx(1.0)
    assert values["key_coverage"] == values["oracle_recall"] == values["windows_consecutive"] == 1.0
    assert values["duplicate_rows"] == values["test_targets_in_train"] == 0.0


def test_float16_passes_too(make_payload: MakePayload) -> None:
    payload = make_payload([6] * 50, vectors=unit_rows(300, 16).astype(np.float16))
    assert failures(run_preflight(payload, windows_of(payload))) == []


def test_targets_from_a_rotated_space_are_caught(payload: Payload) -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0].astype(np.float32)
    targets = targets_of(payload)
    turned = replace(targets, vectors=targets.vectors @ rotation)
    checks = run_preflight(payload, windows_of(payload), targets=turned)
    assert failures(checks) == ["truth_cosine_mean", "truth_cosine_p5"]


def test_a_few_wrong_targets_show_in_the_fifth_percentile(payload: Payload) -> None:
    targets = targets_of(payload)
    targets.vectors[:30] = unit_rows(30, 16, seed=9)  # a tenth of 300
    names = failures(run_preflight(payload, windows_of(payload), targets=targets))
    assert "truth_cosine_p5" in names


def test_a_missing_truth_key_is_caught(payload: Payload) -> None:
    targets = targets_of(payload)
    targets.chunk_index[3] = 99
    checks = run_preflight(payload, windows_of(payload), targets=targets)
    assert failures(checks) == ["key_coverage"]
    assert "1 of 300 truth keys missing" in blocking(checks)[0].line()


def test_vectors_of_another_norm_are_caught(make_payload: MakePayload) -> None:
    vectors = unit_rows(300, 16)
    vectors[7] *= 1.01
    payload = make_payload([6] * 50, vectors=vectors)
    (found,) = blocking(run_preflight(payload, windows_of(payload)))
    assert found.name == "unit_norm"
    assert found.value == pytest.approx(0.01, rel=1e-3)


def test_nan_is_caught_and_fails_closed(make_payload: MakePayload) -> None:
    vectors = unit_rows(300, 16)
    vectors[7, 3] = np.nan
    payload = make_payload([6] * 50, vectors=vectors)
    names = failures(run_preflight(payload, windows_of(payload)))
    assert "finite" in names and "oracle_recall" in names


def test_a_table_of_another_payload_is_caught(payload: Payload, make_payload: MakePayload) -> None:
    other = windows_of(make_payload([7] * 40, name="other"))
    names = failures(run_preflight(payload, other))
    assert "windows_consecutive" in names and "truth_cosine_p5" in names


def test_row_numbers_beyond_the_payload_are_refused(payload: Payload, make_payload: MakePayload) -> None:
    larger = windows_of(make_payload([6] * 90, name="larger"))
    with pytest.raises(
        ValueError, match="windows: expected row numbers from 0 to 299, got 0 to 539; they belong to another"
    ):
        run_preflight(payload, larger)


def test_an_article_in_two_splits_is_caught_and_can_be_waived_by_name(payload: Payload) -> None:
    splits = windows_of(payload)
    moved = splits.train.take(np.arange(1))
    both = replace(
        splits,
        val=WindowTable(
            np.concatenate([splits.val.rows, moved.rows]),
            np.concatenate([splits.val.article_index, moved.article_index]),
        ),
    )
    (found,) = blocking(run_preflight(payload, both))
    assert found.line() == (
        "preflight.article_overlap: expected == 0, got 1 (articles in two splits); "
        "split by article; with windows of one article on both sides validation measures memory"
    )
    waived = run_preflight(payload, both, waive=["article_overlap"])
    assert blocking(waived) == []
    assert [check.name for check in waived if check.waived] == ["article_overlap"]


def test_an_unknown_name_cannot_be_waived(payload: Payload) -> None:
    with pytest.raises(ValueError, match=r"preflight.waive: expected names among finite, .* got 'overlap'"):
        run_preflight(payload, windows_of(payload), waive=["overlap"])


def test_exact_copies_are_counted_and_do_not_break_the_oracle(make_payload: MakePayload) -> None:
    vectors = unit_rows(300, 16)
    vectors[1::6] = vectors[1]  # one chunk of every article is the same: 50 of 300
    payload = make_payload([6] * 50, vectors=vectors)
    checks = {check.name: check for check in run_preflight(payload, windows_of(payload))}
    assert checks["duplicate_rows"].value == pytest.approx(50 / 300)
    assert checks["oracle_recall"].passed
    # windows of 6 chunks with L = 2 have the targets 2..5, and the copy is chunk 1
    assert checks["test_targets_in_train"].value == 0.0


def test_the_line_of_a_failed_check_has_value_limit_and_what_to_do() -> None:
    check = Check(name="x", value=0.14, limit=0.98, relation=">=", passed=False, hint="embed again")
    assert check.line() == "preflight.x: expected >= 0.98, got 0.14; embed again"
