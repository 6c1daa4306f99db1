"""Ray's agents end with the launch, whatever kills it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORDS = "Raylet received SIGTERM"
_POLL_S = 0.02


@contextmanager
def agents_that_end(sessions: Path) -> Iterator[None]:
    """Start Ray inside: its agents will not outlive a raylet or a launch that is killed, even while they start.

    Each raylet has two agents. One whose raylet is gone reports that to the head and waits for the answer; when the
    head is gone as well, for up to a minute. It does not report when the last MiB of the raylet's log says that the
    raylet was told to end. So `raylet.out`, where it looks, holds these words before there is a raylet; Ray then names
    the raylet's own log `raylet.1.out`.

    Args:
        sessions: The folder that gets the session's own, `session_<time>_<pid>`.
    """
    earlier = _logs(sessions)
    started = threading.Event()

    def write() -> None:
        new: set[Path] = set()
        over = False
        while not new and not over:
            over = started.wait(_POLL_S)
            new = _logs(sessions) - earlier
        for logs in new:
            with (logs / "raylet.out").open("a", encoding="utf-8") as file:
                file.write(f"next-vector: an agent that finds the words '{WORDS}' here ends at once\n")

    thread = threading.Thread(target=write, name="agents that end", daemon=True)
    thread.start()
    try:
        yield
    finally:
        started.set()
        thread.join()


def _logs(sessions: Path) -> set[Path]:
    """Return the folders of logs of this process's sessions."""
    return set(sessions.glob(f"session_*_{os.getpid()}/logs"))
