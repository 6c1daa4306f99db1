"""The run folder: what is written comes back, what a crash cut short does no harm, what is not a run is left alone."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.io import append_json_line, write_json
from evaluation.ending import Ending
from orchestrator.gates import TrialDecision
from orchestrator.run.ledger import Ledger, TrialEnd, differences, epoch_of
from orchestrator.run.records import keep_epoch

MANIFEST = {"config_sha256": "c" * 64, "data_sha256": "d" * 64}
CONFIG = {"name": "x", "training": {"epochs": 4, "optimizer": {"lr": 1e-3}}, "variants": {"a": {}}}


def decision(action: str, epoch: int = 2, reason: str = "why", **changes: Any) -> TrialDecision:
    fields = {"rule": "r@5 >= 0.3", "value": 0.1, "limit": 0.3, "passed": False}
    return TrialDecision(**{**fields, "epoch": epoch, "action": action, "reason": reason, **changes})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger(tmp_path / "run")
    opened.open(CONFIG, MANIFEST)
    return opened


# ---- a trial's records


def test_an_epochs_record_is_what_the_rules_need() -> None:
    line = {"epoch": 2, "loss": 0.5, "seconds": {"step": 1.0}, "order_digest": "ab", "smoke": {"r@5": 0.1}, "val": None}
    epoch = epoch_of(line)
    assert (epoch.epoch, epoch.smoke, epoch.diverged) == (2, {"r@5": 0.1}, None)
    assert epoch.metrics == {"epoch": 2, "loss": 0.5}
    assert epoch_of({"epoch": 1, "diverged": "loss nan"}).diverged == "loss nan"


def test_a_variants_records_are_read_with_null_for_what_is_not_finite(ledger: Ledger) -> None:
    folder = ledger.variant("a")
    folder.path.mkdir(parents=True)
    append_json_line(folder.metrics, {"epoch": 1, "loss": math.nan})
    append_json_line(folder.metrics, {"epoch": 2, "loss": 0.5})
    assert folder.records() == [{"epoch": 1, "loss": None}, {"epoch": 2, "loss": 0.5}]
    assert [epoch.epoch for epoch in folder.history()] == [1, 2]
    assert folder.smoke(4) == ledger.path / "variants" / "a" / "smoke_epoch4.json"


# ---- how a trial ended


@pytest.mark.parametrize("ending", Ending)
def test_the_last_decision_says_how_a_trial_ended(ledger: Ledger, ending: Ending) -> None:
    assert ledger.end_of("a") is None
    ledger.record("a", decision("interrupt", epoch=1))
    ledger.record("a", decision("continue"))
    assert ledger.end_of("a") is None
    ledger.record("a", decision(ending, epoch=4, reason="so it was"))
    ledger.record("b", decision("warn", epoch=5))
    assert ledger.end_of("a") == TrialEnd(ending=ending, epoch=4, reason="so it was")


def test_every_rule_that_ended_a_trial_is_in_the_reason_once(ledger: Ledger) -> None:
    ledger.record("a", decision("prune", epoch=2, reason="an earlier end"))
    for reason in ("r@5 too low", "r@1 too low", "r@5 too low"):
        ledger.record("a", decision("prune", epoch=4, reason=reason))
    assert ledger.end_of("a") == TrialEnd(ending=Ending.PRUNED, epoch=4, reason="r@5 too low; r@1 too low")


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


CHANGED = {"name": "x", "training": {"epochs": 5, "optimizer": {"lr": 1e-3}}, "variants": {"a": {}, "b": {"d": 1}}}


@pytest.mark.parametrize(
    ("config", "fingerprint", "data", "got"),
    [
        (CHANGED, "e" * 64, "d" * 64, "configuration, got training.epochs: 4 -> 5; variants.b: (none) -> {'d': 1}"),
        (CONFIG, "e" * 64, "d" * 64, "configuration, got one that another version of this program resolved"),
        (CONFIG, "c" * 64, "e" * 64, f"data (sha256 {'d' * 16}), got {'e' * 16}"),
    ],
    ids=["changed", "another version", "other data"],
)
def test_another_run_is_refused_with_the_difference(
    ledger: Ledger, config: dict[str, Any], fingerprint: str, data: str, got: str
) -> None:
    with pytest.raises(UserError) as refused:
        ledger.check_same(config, fingerprint, {"data_sha256": data})
    advice = "give another --run-dir or name, or start over with --fresh"
    assert str(refused.value) == f"{ledger.path}: expected the run's own {got}; {advice}"


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


def test_a_run_moves_aside_with_all_that_is_in_it(ledger: Ledger) -> None:
    append_json_line(ledger.decisions, {"a": 1})
    (ledger.path / "notes.txt").write_text("mine")
    aside = ledger.move_aside()
    assert aside is not None and not ledger.path.exists()
    assert aside.name.startswith(f"{ledger.path.name}.old-")
    assert Ledger(aside).decisions.is_file()
    assert (aside / "notes.txt").read_text() == "mine"
    assert ledger.move_aside() is None


def test_the_last_two_runs_stay_aside_and_of_older_ones_what_no_run_makes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x")
    asides = []
    for number in range(4):
        ledger.open({"number": number}, {})
        ledger.variant("a").path.mkdir(parents=True)
        if number == 1:
            (ledger.path / "notes.txt").write_text("mine")
        asides.append(ledger.move_aside())
    first, second, third, fourth = (path for path in asides if path is not None)
    assert sorted(tmp_path.iterdir()) == [second, third, fourth]
    assert [path.name for path in second.iterdir()] == ["notes.txt"]
    assert Ledger(third).is_claimed() and Ledger(fourth).is_claimed() and not first.exists()


@pytest.mark.parametrize(
    "files", [["thesis.txt"], ["config.yaml", "thesis.txt"], ["manifest.json"], ["variants"]], ids=str
)
def test_a_folder_that_is_no_run_is_neither_moved_nor_adopted(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text('{"name": "extension"}')
    with pytest.raises(ValueError, match=r"expected (a run folder with its mark|the run's own configuration)"):
        Ledger(tmp_path).move_aside()
    with pytest.raises(ValueError, match=r"expected (a run folder with its mark|the manifest of a run)"):
        Ledger(tmp_path).check_same({}, "c", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("files", [[], ["config.yaml"]], ids=str)
def test_what_a_launch_that_died_at_once_left_stands_in_nobodys_way(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text("name: x\n")
    assert Ledger(tmp_path).move_aside() is None
    Ledger(tmp_path).check_same({}, "c", {})


@pytest.mark.parametrize("ending", Ending)
def test_a_run_is_complete_with_results_in_which_no_trial_failed(ledger: Ledger, ending: Ending) -> None:
    assert not ledger.is_complete()
    write_json(ledger.results, {"rows": [{"status": "FINISHED"}, {"status": ending.name}]})
    assert ledger.is_complete() == (ending not in {Ending.FAILED, Ending.INTERRUPTED})


def test_what_a_launch_left_that_never_claimed_the_folder_is_discarded(tmp_path: Path, ledger: Ledger) -> None:
    early = Ledger(tmp_path / "early")
    early.path.mkdir()
    for opened in (early, ledger):
        opened.log.write_text("Ray says")
        opened.discard_unclaimed()
    assert not early.path.exists()
    assert ledger.log.is_file()
    early.path.mkdir()
    (early.path / "thesis.txt").write_text("years")
    early.discard_unclaimed()
    assert (early.path / "thesis.txt").is_file()


def test_triage_is_read_from_the_smoke_evaluation_that_has_it(ledger: Ledger) -> None:
    folder = ledger.variant("a")
    assert folder.triage(2) == []
    write_json(folder.smoke(2), {"triage": [{"question": "why?"}]})
    write_json(folder.smoke(4), {"metrics": {}})
    assert (folder.triage(2), folder.triage(4)) == ([{"question": "why?"}], [])


def test_records_of_another_run_or_another_trial_are_refused_by_name(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path / "one"), Ledger(tmp_path / "two")
    first.check_same({}, "configuration", {"data_sha256": "d"})
    second.check_same({}, "configuration", {"data_sha256": "other"})
    keep_epoch(first.variant("a"), {"epoch": 1}, {})
    assert [record["epoch"] for record in first.variant("a").records()] == [1]
    shutil.copytree(tmp_path / "one" / "variants", tmp_path / "two" / "variants")
    shutil.copytree(tmp_path / "one" / "variants" / "a", tmp_path / "one" / "variants" / "b")
    for folder in (second.variant("a"), first.variant("b")):
        with pytest.raises(
            UserError, match=r"metrics.jsonl: expected what this run wrote \(\w+/[ab]\), got \w+/a; move"
        ):
            folder.records()
    assert first.run != second.run
