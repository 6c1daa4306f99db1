"""Every bad input is one line of at most 300 characters and exit code 2, soon, and nothing is written."""

import importlib
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bad_inputs.makers import filled, make_workspace

COMMANDS = {
    "build": "data.build",
    "embed": "data.embed",
    "launch": "orchestrator.command",
    "report": "evaluation.report.page",
    "checkpoint": "evaluation.studies.checkpoint",
    "compare": "evaluation.studies.compare",
    "seeds": "evaluation.studies.seeds",
    "ablation": "evaluation.studies.ablation",
    "sweep": "evaluation.studies.sweep",
    "index_file": "evaluation.index.file",
    "status": "orchestrator.status",
}
CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text(encoding="utf-8"))
SECONDS, MOST_KIB = 10, 1 << 20


class TooLongError(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_workspace(folder)
    return folder


def everything(folder: Path) -> set[str]:
    return {f"{where}/{name}" for where, folders, files in os.walk(folder) for name in (*folders, *files)}


@pytest.mark.parametrize(("command", "arguments", "code", "words"), CASES, ids=[f"{c} {a}" for c, a, _, _ in CASES])
def test_a_bad_input_is_one_line(  # noqa: PLR0917
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    arguments: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(workspace)
    line = filled(arguments, workspace)
    main = importlib.import_module(COMMANDS[command]).main
    before, memory = everything(workspace), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def stop(*_: Any) -> None:
        raise TooLongError(f"{command} {arguments}: more than {SECONDS} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        found = main(line)
    except SystemExit as ended:  # argparse
        found = ended.code
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
    shown = capfd.readouterr()
    said = [text for text in shown.err.splitlines() if not text.startswith(("usage: ", "  "))]
    assert (found, len(said)) == (code, 1), shown.err[-600:]
    assert len(said[0]) <= 300 and said[0].isprintable()
    assert all(word in said[0] for word in words.split()), said[0]
    assert everything(workspace) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_KIB
