"""Errors that no input explains: what is said of them in one line."""

from __future__ import annotations


class RunError(RuntimeError):
    """A run ended by an error that no input explains; the message says where its traceback is, `__cause__` is it."""


def one_line(error: BaseException) -> str:
    """Return type and message of what a task raised: Ray's wrapping of it begins with a traceback."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
