"""Renders a run's tables and report.html from its files, without training.

python -m orchestrator.report runs/phase5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data.errors import UserError
from evaluation.report.page import write_report
from evaluation.report.table import ComparisonTable
from evaluation.results import load_results


def render(run: Path, payload: str | None = None) -> list[Path]:
    """Write the comparison table in every format and report.html; return the paths.

    Raises MissingFileError or a one-line UserError when the folder holds no finished run.
    """
    table = ComparisonTable.from_results(load_results(run))
    return [*table.write(run), write_report(run, payload)]


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.report", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--payload", help="folder of the payload; default: the run's")
    options = parser.parse_args(arguments)
    try:
        for path in render(options.run, options.payload):
            print(path)  # noqa: T201
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
