"""One writer at a time for a folder that takes long to make: a run, a cached corpus."""

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import UserError
from data.io import read_json, write_json


@contextmanager
def held(folder: Path, advice: str) -> Iterator[None]:
    """Hold a folder, which need not be there yet, against other processes of every node that sees its disk.

    The system frees the lock of a process that died, so a stale one is taken over. Nothing is left of it afterwards.

    Raises:
        UserError: another process holds it: which one, where, since when; `advice` says what to do.
    """
    parents = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    file, about = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("lock", "holder.json"))
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: expected it free, got it in use by {_who(about)}; {advice}") from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(about, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        about.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # not empty: it was used
            for parent in parents:
                parent.rmdir()


def _who(about: Path) -> str:
    try:
        found = read_json(about)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, UserError, KeyError, TypeError):
        return "another process"
