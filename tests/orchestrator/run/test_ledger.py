"""The run folder: what is written comes back, what a crash cut short does no harm, what is not a run is left alone."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from orchestrator.gates import Decision
from orchestrator.run.ledger import (
    Ledger,
    append_line,
    differences,
    epoch_of,
    finite,
    read_lines,
    write_json,
    write_text,
)

MANIFEST = {"config_sha256": "c" * 64, "data_sha256": "d" * 64}
CONFIG = {"name": "x", "training": {"epochs": 4, "optimizer": {"lr": 1e-3}}, "variants": {"a": {}}}


def decision(action: str, epoch: int = 2, reason: str = "why", **changes: Any) -> Decision:
    fields = {"rule": "r@5 >= 0.3", "value": 0.1, "limit": 0.3, "passed": False}
    return Decision(**{**fields, "epoch": epoch, "action": action, "reason": reason, **changes})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger(tmp_path / "run")
    opened.open(CONFIG, MANIFEST)
    return opened


# ---- files


def test_json_comes_back_with_null_for_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": math.nan, "b": [math.inf, 1.5, (2, -math.inf)], 3: "three", "none": None, "yes": True})
    assert json.loads(path.read_text()) == {
        "a": None,
        "b": [None, 1.5, [2, None]],
        "3": "three",
        "none": None,
        "yes": True,
    }


def test_a_whole_file_is_replaced_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "old")
    write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_finite_rebuilds_containers_and_leaves_its_argument() -> None:
    given = {"a": (1.0, math.nan)}
    assert finite(given) == {"a": [1.0, None]}
    assert math.isnan(given["a"][1])


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    records = [{"a": 1}, {"b": {"c": [1, 2]}}, {"text": "line\nbreak \u2028 \u00e9"}]
    for line in records:
        append_line(path, line)
    assert read_lines(path) == records
    assert len(path.read_text().splitlines()) == 3


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


def test_a_last_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b"')
    assert read_lines(path) == [{"a": 1}]


def test_what_is_appended_after_a_line_cut_short_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b"')
    append_line(path, {"a": 3})
    append_line(path, {"a": 4})
    assert read_lines(path) == [{"a": 1}, {"a": 3}, {"a": 4}]


def test_a_whole_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}')
    append_line(path, {"a": 2})
    assert read_lines(path) == [{"a": 1}, {"a": 2}]


def test_an_epochs_record_is_what_the_rules_need() -> None:
    line = {"epoch": 2, "loss": 0.5, "seconds": {"step": 1.0}, "order_digest": "ab", "smoke": {"r@5": 0.1}, "val": None}
    epoch = epoch_of(line)
    assert (epoch.epoch, epoch.smoke, epoch.diverged) == (2, {"r@5": 0.1}, None)
    assert epoch.metrics == {"epoch": 2, "loss": 0.5}
    assert epoch_of({"epoch": 1, "diverged": "loss nan"}).diverged == "loss nan"


def test_a_variants_records_can_be_replaced(ledger: Ledger) -> None:
    folder = ledger.variant("a")
    folder.rewrite([{"epoch": 1, "loss": math.nan}])
    append_line(folder.metrics, {"epoch": 2, "loss": 0.5})
    assert folder.records() == [{"epoch": 1, "loss": None}, {"epoch": 2, "loss": 0.5}]
    assert [epoch.epoch for epoch in folder.history()] == [1, 2]
    folder.rewrite([])
    assert folder.records() == []
    assert folder.smoke(4) == ledger.path / "variants" / "a" / "smoke_epoch4.json"


# ---- how a trial ended


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("finish", "FINISHED"),
        ("early_stop", "EARLY_STOPPED"),
        ("prune", "PRUNED"),
        ("diverge", "DIVERGED"),
        ("fail", "FAILED"),
        ("interrupt", "INTERRUPTED"),
    ],
)
def test_the_last_decision_says_how_a_trial_ended(ledger: Ledger, action: str, status: str) -> None:
    ledger.record("a", decision("continue"))
    assert ledger.end_of("a") is None
    ledger.record("a", decision(action, epoch=4, reason="so it was"))
    ledger.record("b", decision("warn", epoch=5))
    end = ledger.end_of("a")
    assert end is not None
    assert (end.status, end.epoch, end.reason) == (status, 4, "so it was")


def test_a_trial_without_decisions_has_no_end(ledger: Ledger) -> None:
    assert ledger.end_of("a") is None


def test_every_rule_that_ended_a_trial_is_in_the_reason_once(ledger: Ledger) -> None:
    ledger.record("a", decision("prune", epoch=2, reason="an earlier end"))
    for reason in ("r@5 too low", "r@1 too low", "r@5 too low"):
        ledger.record("a", decision("prune", epoch=4, reason=reason))
    end = ledger.end_of("a")
    assert end is not None
    assert end.reason == "r@5 too low; r@1 too low"


def test_a_trial_that_went_on_after_a_failure_ends_as_its_last_decision_says(ledger: Ledger) -> None:
    ledger.record("a", decision("interrupt", epoch=1))
    ledger.record("a", decision("continue", epoch=2))
    assert ledger.end_of("a") is None
    ledger.record("a", decision("finish", epoch=4))
    end = ledger.end_of("a")
    assert end is not None
    assert end.status == "FINISHED"


def test_recorded_rules_are_a_variants_own(ledger: Ledger) -> None:
    ledger.record("a", decision("continue", epoch=2, rule="r@5 >= 0.3"))
    ledger.record("a", decision("finish", epoch=4, rule="epoch == 4"))
    ledger.record("b", decision("prune", epoch=3))
    assert ledger.recorded_rules("a") == {(2, "r@5 >= 0.3"), (4, "epoch == 4")}


def test_a_decision_without_value_or_limit_is_written_as_null(ledger: Ledger) -> None:
    ledger.record("a", decision("prune", value=math.nan, limit=None))
    (line,) = ledger.decisions_of("a")
    assert (line["value"], line["limit"]) == (None, None)


# ---- opening, resuming, refusing, removing


def test_a_folder_opened_again_keeps_its_configuration_and_manifest(ledger: Ledger) -> None:
    before = ledger.config.read_text(), ledger.manifest.read_text()
    ledger.open({"name": "other"}, {"config_sha256": "other"})
    assert (ledger.config.read_text(), ledger.manifest.read_text()) == before


def test_a_new_folder_and_the_same_run_are_accepted(tmp_path: Path, ledger: Ledger) -> None:
    Ledger(tmp_path / "new").check_same(CONFIG, "any", {"data_sha256": "any"})
    ledger.check_same(CONFIG, "c" * 64, {"data_sha256": "d" * 64})


def test_another_configuration_is_refused_with_the_difference(ledger: Ledger) -> None:
    changed = {"name": "x", "training": {"epochs": 5, "optimizer": {"lr": 1e-3}}, "variants": {"a": {}, "b": {"d": 1}}}
    with pytest.raises(ValueError) as refused:
        ledger.check_same(changed, "e" * 64, {"data_sha256": "d" * 64})
    assert str(refused.value) == (
        f"{ledger.path}: expected the run's own configuration, got training.epochs: 4 -> 5; "
        "variants.b: (none) -> {'d': 1}; give another --run-dir or name, or start over with --fresh"
    )


def test_a_configuration_that_only_hashes_differently_is_refused_in_words(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="got one that another version of this program resolved; give another"):
        ledger.check_same(CONFIG, "e" * 64, {"data_sha256": "d" * 64})


def test_other_data_is_refused_with_both_hashes(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match=r"own data \(sha256 d{16}\), got e{16}; give another --run-dir"):
        ledger.check_same(CONFIG, "c" * 64, {"data_sha256": "e" * 64})


def test_an_input_that_an_older_run_did_not_note_is_not_compared(ledger: Ledger) -> None:
    ledger.check_same(CONFIG, "c" * 64, {"data_sha256": "d" * 64, "windows_sha256": "e" * 64})


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c: 2 -> 3"]),
        ({"a": 1}, {}, ["a: 1 -> (none)"]),
        ({}, {"a": None}, []),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a: [1, 2] -> [1, 3]"]),
        ({"a": {"b": 1}}, {"a": 3}, ["a: {'b': 1} -> 3"]),
        ({"a": "x" * 50}, {"a": 1}, [f"a: {'x' * 37}... -> 1"]),
    ],
)
def test_differences_are_shown_leaf_by_leaf(before: dict[str, Any], after: dict[str, Any], found: list[str]) -> None:
    assert differences(before, after) == found


def test_a_run_folder_is_removed_whole(ledger: Ledger) -> None:
    append_line(ledger.decisions, {"a": 1})
    ledger.remove()
    assert not ledger.path.exists()
    ledger.remove()


@pytest.mark.parametrize("files", [["thesis.txt"], ["config.yaml", "thesis.txt"]], ids=str)
def test_a_folder_that_is_no_run_is_not_removed(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text("precious")
    with pytest.raises(ValueError, match=r"expected a run folder, got one without manifest\.json; remove it by hand"):
        Ledger(tmp_path).remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("files", [[], ["config.yaml"]], ids=str)
def test_what_a_launch_that_died_at_once_left_is_removed(tmp_path: Path, files: list[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("name: x\n")
    Ledger(folder).remove()
    assert not folder.exists()


def test_a_run_is_complete_with_its_results(ledger: Ledger) -> None:
    assert not ledger.is_complete()
    write_json(ledger.results, {})
    assert ledger.is_complete()
