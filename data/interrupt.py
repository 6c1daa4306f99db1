"""Ctrl-C that is not lost: a KeyboardInterrupt that some library swallows is raised again at the next check.

Some libraries answer Ctrl-C with an error of their own; that error becomes KeyboardInterrupt again.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class Interrupt:
    """Remembers that Ctrl-C was pressed. A context manager; in the main thread only, as signals are."""

    def __init__(self) -> None:
        self._requested = False
        self._before: signal._HANDLER = signal.SIG_DFL

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)
        if self._requested and isinstance(error, Exception):
            raise KeyboardInterrupt from None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._requested = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed at any time before."""
        if self._requested:
            raise KeyboardInterrupt
