"""Ctrl-C that is not lost: a KeyboardInterrupt that some library swallows is raised again at the next check.

Some libraries answer Ctrl-C with an error of their own; that error becomes KeyboardInterrupt again. SIGTERM and SIGHUP
mean the same: a scheduler or a closed terminal ends a run as its person would.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
PATIENCE_S = 20.0
"""So long the end may take undisturbed: a second Ctrl-C in the middle of it would leave processes behind."""


class Interrupt:
    """Remembers that an end was asked for. A context manager; in the main thread only, as signals are."""

    def __init__(self) -> None:
        self._requested: float | None = None
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Interrupt:
        handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}
        # What nohup has put aside stays aside: the run is to outlive its terminal.
        ignored = {number for number in handlers if number != signal.SIGINT and handlers[number] == signal.SIG_IGN}
        self._before = {number: handler for number, handler in handlers.items() if number not in ignored}
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._requested is not None and isinstance(error, Exception):
            raise KeyboardInterrupt from None

    def listen(self) -> None:
        """Take the signals; again after a library took one for itself, as Ray takes SIGTERM."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._requested is not None and now - self._requested < PATIENCE_S:
            return
        self._requested = now
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if an end was asked for at any time before."""
        if self._requested is not None:
            raise KeyboardInterrupt
