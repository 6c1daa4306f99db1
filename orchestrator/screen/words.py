"""How numbers are written for a person at a terminal or on the live page."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return `42 s`, `7 min` or `1 h 23 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def per_cent(value: float | None) -> str:
    """Return a share in per cent, empty where it is not known."""
    return "" if value is None else f"{100 * value:.1f}"
