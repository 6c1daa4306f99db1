"""The page and the second terminal that show a run while it trains."""

import io
from pathlib import Path
from typing import Any

import pytest

from data.io import write_json
from data.output import held
from evaluation.ending import Ending
from evaluation.report.columns import duration
from orchestrator import status
from orchestrator.gates import ended
from orchestrator.run.ledger import Ledger
from orchestrator.run.records import keep_epoch, keep_smoke
from orchestrator.screen.live import LivePage, end_page
from orchestrator.screen.monitor import Monitor
from tests.browser import HOSTILE, assert_nothing_ran, dom_of, needs_browser

BASELINES = {"last_vector": {"novel.r@5": 0.1, "novel.contain@50": 0.3}}


def record(epoch: int, **more: Any) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "steps": 10 * epoch,
        "loss": 2.0 / epoch,
        "seconds": {"step": 2.0},
        "steps_per_second": 5.0,
        "windows_seen": 100 * epoch,
        "val_soft_r@5": 0.1 * epoch,
        "node": "alpha (10.0.0.1)",
        **more,
    }


@pytest.fixture
def run(tmp_path: Path) -> Ledger:
    """A run in its second epoch: one trial trains, one was pruned, one waits."""
    ledger = Ledger(tmp_path / "run")
    variants = {name: {"model": "mamba_s", "training": {"epochs": 4}} for name in ("a", "b", "c")}
    ledger.open({"name": "mine", "variants": variants}, {"config_sha256": "c"})
    smoke = {"smoke": {"novel.r@5": 0.2, "novel.contain@50": 0.4}}
    for name in ("a", "b"):
        keep_epoch(ledger.variant(name), record(1), {})
        keep_epoch(ledger.variant(name), record(2, **smoke), {})
        keep_smoke(ledger.variant(name), record(2, **smoke), [])
    reason = "novel.r@5 <b>low</b> (limit >= 0.3, failed)"
    ledger.record("b", ended(Ending.PRUNED, 2, "novel.r@5 >= 0.3", reason))
    return ledger


def test_the_page_shows_trials_curves_and_decisions_and_escapes_what_they_say(run: Ledger) -> None:
    monitor = Monitor(io.StringIO(), {"a": 4, "b": 4, "c": 4})
    for name in ("a", "b"):
        monitor.restored(name, run.variant(name).records(), run.end_of(name))
    LivePage(run.path, "mine", monitor.views, BASELINES).write()
    text = (run.path / "live.html").read_text()
    assert '<meta http-equiv="refresh" content="10">' in text
    assert "<td>a</td>" in text and "2/4" in text and "20.0" in text and "alpha (10.0.0.1)" in text
    assert ">5.0<" in text
    assert "&lt;b&gt;low" in text and "<b>low" not in text
    assert "Smoke R@5, novel smoke queries" in text and "last_vector" in text
    end_page(run.path, "mine")
    assert "report.html" in (run.path / "live.html").read_text()


@needs_browser
def test_a_browser_runs_nothing_of_what_a_running_page_is_told(run: Ledger, tmp_path: Path) -> None:
    keep_epoch(run.variant("a"), record(3, node=HOSTILE), {})
    run.record("b", ended(Ending.PRUNED, 2, HOSTILE, HOSTILE))
    monitor = Monitor(io.StringIO(), {"a": 4, HOSTILE: 4})
    monitor.restored("a", run.variant("a").records(), run.end_of("a"))
    LivePage(run.path, HOSTILE, monitor.views, BASELINES).write()
    assert_nothing_ran(dom_of(run.path / "live.html", tmp_path / "profile"))


def test_the_page_is_written_by_itself_after_a_change_and_once_more_at_the_end(run: Ledger) -> None:
    monitor = Monitor(io.StringIO(), {"a": 4})
    page = run.path / "live.html"
    with LivePage(run.path, "mine", monitor.views, {}, least_s=0.0) as live:
        monitor.on_change = live.change
        page.unlink()
        monitor.epoch("a", record(3))
        for _ in range(200):
            if page.is_file() and "3/4" in page.read_text():
                break
            live._over.wait(0.05)
        assert "3/4" in page.read_text()
        page.unlink()
    assert page.is_file()


def test_a_page_that_cannot_be_written_ends_no_training(run: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr("orchestrator.screen.live.write_text", refused)
    with LivePage(run.path, "mine", Monitor(io.StringIO(), {"a": 4}).views, {}):
        pass


def test_the_second_terminal_shows_the_same(run: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(run.path)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith("not running; the same launch command goes on with it")
    rows = {line.split()[0]: line.split() for line in lines if line[:1] in "abc" and line[1:2] == " "}
    assert rows["a"][:6] == ["a", "running", "2/4", "1.000", "20.0", "40.0"]
    assert rows["b"][1] == "pruned" and rows["c"][1:3] == ["waiting", "0/4"]
    with held(run.path, "run"):
        assert "running: process " in status.status(run.path)
    write_json(run.results, {"verdict": "a is the best variant"})
    assert "ended: a is the best variant" in status.status(run.path)


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(tmp_path)]) == 2
    assert "expected a run folder with manifest.json, got none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(42.4, "42 s"), (100, "2 min"), (3599, "1 h 00 min"), (4980, "1 h 23 min")]
)
def test_times_are_written_as_a_person_says_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_every_planned_trial_is_shown_those_of_seeds_that_wait_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    ledger.open({"name": "mine", "seeds": [1, 2], "variants": {"mamba_s": {}}}, {"config_sha256": "c"})
    keep_epoch(ledger.variant("mamba_s@1"), record(1), {})
    lines = status.status(ledger.path).splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("mamba_s")] == [
        ["mamba_s@1", "running", "1/20"],
        ["mamba_s@2", "waiting", "0/20"],
    ]
