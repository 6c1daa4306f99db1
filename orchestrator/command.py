"""The command line: `python -m orchestrator.launch experiments/phase5.yaml`.

    python -m orchestrator.launch experiments/debug.yaml                       the whole pipeline in about 90 seconds
    python -m orchestrator.launch experiments/phase5.yaml --dry-run            the resolved plan; trains nothing
    python -m orchestrator.launch experiments/phase5.yaml --only mamba_s,amn --set seed=2 --run-dir /tmp/try

Exit codes: 0 a best variant was selected; 3 no survivor; 2 bad input; 130 interrupted; 1 anything else.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from data.errors import UserError
from orchestrator.api import RunError, launch, read_experiment
from orchestrator.preflight import PreflightError

BEST, FAILED, BAD_INPUT, NO_SURVIVOR, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and return the exit code."""
    options = _parser().parse_args(arguments)
    only = [name for name in (options.only or "").split(",") if name]
    try:
        return _dry_run(options, only) if options.dry_run else _launch(options, only)
    except PreflightError as error:
        text, code = f"{error.table}\n{error}", BAD_INPUT
    except UserError as error:
        text, code = " ".join(str(error).split()), BAD_INPUT
    except RunError as error:
        text, code = str(error), FAILED
    except OSError as error:
        text, code = f"{error}; fix the path, its permissions or the disk and type the same command again", FAILED
    except KeyboardInterrupt:
        text, code = "interrupted; type the same command again to continue from the last checkpoints", INTERRUPTED
    print(text, file=sys.stderr)  # noqa: T201
    return code


def _launch(options: argparse.Namespace, only: list[str]) -> int:
    results = launch(
        options.experiment,
        set=options.set,
        only=only,
        run_dir=options.run_dir,
        fresh=options.fresh,
        address=options.address,
        verbose=options.verbose,
    )
    return exit_code(results)


def exit_code(results: dict[str, Any]) -> int:
    """Return 0 when a best variant was selected, 3 when none survived."""
    return BEST if results["best"] is not None else NO_SURVIVOR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.launch",
        description="Train, prune, evaluate and compare next-vector models as an experiment file says.",
    )
    parser.add_argument("experiment", type=Path, help="experiment file, e.g. experiments/phase5.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override one key; may be repeated")
    parser.add_argument("--only", metavar="NAMES", help="train these variants only, e.g. mamba_s,amn")
    parser.add_argument("--run-dir", type=Path, help="run folder (default: runs/<name>)")
    parser.add_argument("--fresh", action="store_true", help="delete what the run folder holds and start over")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved plan and train nothing")
    parser.add_argument("--address", help="join a running Ray cluster instead of starting one")
    parser.add_argument("-v", "--verbose", action="store_true", help="let Ray's own output through")
    return parser


def _dry_run(options: argparse.Namespace, only: list[str]) -> int:
    from orchestrator.screen.plan import plan_text

    plan = plan_text(*read_experiment(options.experiment, options.set, only, options.run_dir))
    try:
        print(plan, flush=True)  # noqa: T201
    except BrokenPipeError:
        # `| head` has read enough; without this the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BEST
