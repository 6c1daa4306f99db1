"""Can Ray start its workers with this interpreter?"""

import sys

from data.errors import UserError


def check_interpreter() -> None:
    """Raise UserError where a local Ray would wait for its workers for ever.

    Ray 2.60 splits the command of a worker at spaces, so an interpreter under a path with a space never starts.
    """
    if " " in sys.executable:
        raise UserError(
            f"python: expected an interpreter under a path without spaces, got {sys.executable}; Ray cannot start its "
            "workers from there: move the folder or make the environment elsewhere"
        )
