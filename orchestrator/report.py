"""Renders a run's tables and report.html from its files, without training; the same as `python -m evaluation.report`.

python -m orchestrator.report runs/phase5
"""

import sys

from evaluation.report.page import main
from evaluation.report.page import write_all as render

__all__ = ["main", "render"]

if __name__ == "__main__":
    sys.exit(main(prog="python -m orchestrator.report"))
