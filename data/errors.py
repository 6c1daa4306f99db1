"""The errors that are made for people. Commands print them as one line and end with exit code 2.

Any other exception is a fault of this program: it keeps its traceback, and the exit code is 1.
"""

import difflib
import math
from collections.abc import Iterable

LONGEST_LINE = 300


class UserError(ValueError):
    """Something that a person can correct; the message is `where: expected what, got what; how to fix it`."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a person named, or that an earlier command should have made, is not there."""


class DamagedError(UserError):
    """What this program wrote is not as it was written; where it can be made again, it is."""


def one_line(error: BaseException) -> str:
    """Return an error as one line for a person: white space folded, nothing unprintable, at most 300 characters."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(error).split()))
    return line if len(line) <= LONGEST_LINE else f"{line[:200]} ... {line[5 + 200 - LONGEST_LINE :]}"


def check_range(where: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Raise UserError for a number outside low..high; None is let through."""
    if value is not None and not low <= value <= high:
        most = "or more" if high == math.inf else f"to {high:g}"
        raise UserError(f"{where}: expected {low:g} {most}, got {value}; give another number")


def did_you_mean(word: str, legal: Iterable[str], otherwise: str) -> str:
    """Return `did you mean X?` for the legal word nearest to `word`, or `otherwise` when none is near."""
    near = difflib.get_close_matches(word, list(legal), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else otherwise
