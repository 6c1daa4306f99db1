"""The errors that are made for people. Commands print them as one line and end with exit code 2.

Any other exception is a fault of this program: it keeps its traceback, and the exit code is 1.
"""


class UserError(ValueError):
    """Something that a person can correct; the message is `where: expected what, got what; how to fix it`."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a person named, or that an earlier command should have made, is not there."""
