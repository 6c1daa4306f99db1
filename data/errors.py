"""The errors that are made for people. Commands print them as one line and end with exit code 2.

Any other exception is a fault of this program: it keeps its traceback, and the exit code is 1.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that a person can correct; the message is `where: expected what, got what; how to fix it`."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a person named, or that an earlier command should have made, is not there."""


class DamagedError(UserError):
    """What this program wrote is not as it was written; where it can be made again, it is."""


def did_you_mean(word: str, legal: Iterable[str], otherwise: str) -> str:
    """Return `did you mean X?` for the legal word nearest to `word`, or `otherwise` when none is near."""
    near = difflib.get_close_matches(word, list(legal), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else otherwise
