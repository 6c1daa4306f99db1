"""What only this user may read: Ray's token, and the folder of a session on this machine."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from data.errors import UserError

SOCKET_LETTERS = 103
"""A socket's path may have so many bytes on macOS; four more on Linux."""
SESSION_LETTERS = len("/ray/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store.1")


def keep_token_private() -> None:
    """Make the token before Ray does, which leaves it readable by everybody: who has it can run code as this user."""
    path = token_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.is_file():
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        elif path.stat().st_uid == os.getuid():
            path.chmod(0o600)
    except OSError:
        return  # a home that cannot be written: Ray says what it makes of that


def token_path() -> Path:
    """Return where Ray looks for the token."""
    configured = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(configured) if configured else Path.home() / ".ray" / "auth_token"


def session_folder() -> Path:
    """Return a folder for Ray's sessions that nobody else may enter; Ray itself opens what it makes there to all.

    It lies where Ray's would (RAY_TMPDIR, TMPDIR), or in /tmp where the path of a socket would become too long.

    Raises:
        UserError: somebody else made that folder, or nothing can be made there.
    """
    from ray._common.utils import get_default_system_temp_dir

    base = Path(get_default_system_temp_dir()).absolute()
    outer = base if _is_private(base) else base / f"next-vector-{os.getuid()}"
    if len(os.fsencode(outer)) + SESSION_LETTERS > SOCKET_LETTERS:
        outer = Path("/tmp") / f"next-vector-{os.getuid()}"
    try:
        outer.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        got = error.strerror or str(error)
        raise UserError(f"{outer}: expected a place for Ray's session, got {got}; set RAY_TMPDIR to one") from error
    if not _is_private(outer):
        raise UserError(
            f"{outer}: expected a folder that only you may enter, got one that others own or may enter; remove it, "
            "or set RAY_TMPDIR to another place"
        )
    return outer / "ray"


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and not folder.is_symlink() and status.st_uid == os.getuid() and not status.st_mode & 0o077
