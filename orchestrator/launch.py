"""The command `python -m orchestrator.launch`; see orchestrator/command.py. The function is `orchestrator.launch`."""

import sys

from orchestrator.command import main

if __name__ == "__main__":
    sys.exit(main())
