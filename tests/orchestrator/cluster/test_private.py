"""The token is its owner's alone, and nobody else may enter the folder of a session."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.errors import UserError
from orchestrator.cluster.private import SESSION_LETTERS, SOCKET_LETTERS, keep_token_private, session_folder

NAME = f"next-vector-{os.getuid()}"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder that others may enter, as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="nv", dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


def test_a_session_lies_below_a_folder_that_only_this_user_may_enter(place: Path) -> None:
    assert session_folder() == place / NAME / "ray"
    assert mode(place / NAME) == 0o700


def test_a_place_that_is_private_already_is_taken_as_it_is(place: Path) -> None:
    place.chmod(0o700)
    assert session_folder() == place / "ray"


def test_a_folder_that_others_may_enter_is_refused(place: Path) -> None:
    (place / NAME).mkdir()
    (place / NAME).chmod(0o755)
    with pytest.raises(UserError, match=f"{NAME}: expected a folder that only you may enter"):
        session_folder()
    assert mode(place / NAME) == 0o755


def test_a_link_to_another_folder_is_refused(place: Path) -> None:
    (place / "elsewhere").mkdir(mode=0o700)
    (place / NAME).symlink_to(place / "elsewhere")
    with pytest.raises(UserError, match="expected a folder that only you may enter"):
        session_folder()


def test_a_path_too_long_for_a_socket_gives_way_to_tmp(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = SOCKET_LETTERS - SESSION_LETTERS - len("/" + NAME)
    for length, folder in ((longest, None), (longest + 1, Path("/tmp") / NAME / "ray")):
        long = place / ("x" * (length - len(str(place)) - 1))
        long.mkdir(exist_ok=True)
        monkeypatch.setenv("RAY_TMPDIR", str(long))
        assert session_folder() == (folder or long / NAME / "ray")


def test_a_place_that_does_not_exist_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(place / "no"))
    with pytest.raises(UserError, match="expected a place for Ray's session, got No such file or directory"):
        session_folder()


@pytest.mark.parametrize("before", [None, 0o644])
def test_the_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int | None) -> None:
    path = tmp_path / "home" / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    if before is not None:
        path.parent.mkdir(parents=True)
        path.write_text("kept")
        path.chmod(before)
    keep_token_private()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) == 64 if before is None else path.read_text() == "kept"
    assert before is not None or path.parent.stat().st_mode & 0o777 == 0o700
