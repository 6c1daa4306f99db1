"""The raylet's log says from its first line what keeps agents from reporting to a head that is gone."""

import os
import time
from pathlib import Path

import pytest
from ray._private import process_watcher, utils

from orchestrator.cluster.agents import agents_that_end


def logs_of(sessions: Path, pid: int, name: str = "session_2026-01-31_12-00-00_123456") -> Path:
    folder = sessions / f"{name}_{pid}" / "logs"
    folder.mkdir(parents=True)
    return folder


def test_an_agent_does_not_report_a_raylet_whose_log_begins_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[str] = []
    monkeypatch.setattr(utils, "publish_error_to_driver", lambda kind, text, gcs_client: reports.append(text))
    with agents_that_end(tmp_path):
        logs = logs_of(tmp_path, os.getpid())
        for _ in range(500):
            if (logs / "raylet.out").is_file():
                break
            time.sleep(0.01)
        with (logs / "raylet.out").open("a") as raylet:
            raylet.write("a raylet's line\n")
    process_watcher.report_raylet_error_logs(str(logs), None)
    assert reports == []
    (logs / "raylet.out").write_text("a raylet's line\n")
    process_watcher.report_raylet_error_logs(str(logs), None)
    assert len(reports) == 1


def test_sessions_of_others_and_earlier_ones_are_left_alone(tmp_path: Path) -> None:
    earlier, other = logs_of(tmp_path, os.getpid()), tmp_path / "none"
    with agents_that_end(tmp_path):
        other = logs_of(tmp_path, os.getpid() + 1)
        own = logs_of(tmp_path, os.getpid(), "session_2026-01-31_13-00-00_123456")
    assert [(logs / "raylet.out").is_file() for logs in (earlier, other, own)] == [False, False, True]


def test_a_start_that_fails_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), agents_that_end(tmp_path):
        raise ZeroDivisionError
