"""The command line: `python -m orchestrator.launch experiments/phase5.yaml`.

    python -m orchestrator.launch experiments/debug.yaml                       the whole pipeline in a few minutes
    python -m orchestrator.launch experiments/phase5.yaml --dry-run            the resolved plan; trains nothing
    python -m orchestrator.launch experiments/phase5.yaml --only mamba_s,amn --set seed=2 --run-dir runs/try

Exit codes: 0 the best variant is ready, or cannot be told from the reference; 3 no variant is; 4 a trial failed, and
the same command tries it again; 2 bad input; 130 interrupted; 141 nobody reads the output; 1 anything else.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from data.errors import UserError, one_line
from data.preflight.run import blocking
from evaluation.ending import is_incomplete
from orchestrator.api import launch, read_experiment
from orchestrator.preflight import PreflightError
from orchestrator.run.faults import RunError

BEST, FAULT, BAD_INPUT, NO_BEST, TRIAL_FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 4, 130, 141
_GOOD_VERDICTS = ("PRODUCTION READY", "TIE")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and return the exit code."""
    options = _parser().parse_args(arguments)
    only = [name for name in (options.only or "").split(",") if name]
    try:
        return _dry_run(options, only) if options.dry_run else _launch(options, only)
    except PreflightError as error:
        text, code = f"{error.table}\n{error}", BAD_INPUT
    except UserError as error:
        text, code = one_line(error), BAD_INPUT
    except RunError as error:
        text, code = str(error), FAULT
    except BrokenPipeError:
        _nobody_reads()
        return BROKEN_PIPE
    except OSError as error:
        text, code = f"{error}; fix the path, its permissions or the disk and type the same command again", FAULT
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
        verify=options.verify,
        verbose=options.verbose,
    )
    return exit_code(results)


def exit_code(results: dict[str, Any]) -> int:
    """Return what the results come to; see the module's docstring."""
    if is_incomplete(results["rows"]):
        return TRIAL_FAILED
    verdicts = {row["variant"]: row.get("verdict") for row in results["rows"]}
    return BEST if verdicts.get(results["best"]) in _GOOD_VERDICTS else NO_BEST


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.launch",
        description="Train, prune, evaluate and compare next-vector models as an experiment file says.",
    )
    parser.add_argument("experiment", type=Path, help="experiment file, e.g. experiments/phase5.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override one key; may be repeated")
    parser.add_argument("--only", metavar="NAMES", help="train these variants only, e.g. mamba_s,amn")
    parser.add_argument("--run-dir", type=Path, help="run folder (default: runs/<name>)")
    parser.add_argument(
        "--fresh", action="store_true", help="move the old run aside (the last two are kept) and start over"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved plan and train nothing")
    parser.add_argument("--address", help="join a running Ray cluster instead of starting one")
    parser.add_argument("--verify", action="store_true", help="compare the hashes of all data files, not only samples")
    parser.add_argument("-v", "--verbose", action="store_true", help="let Ray's own output through")
    return parser


def _nobody_reads() -> None:
    """Take the standard output away: `| head` has read enough, and at its end the interpreter would complain of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dry_run(options: argparse.Namespace, only: list[str]) -> int:
    from orchestrator.cluster import start as cluster

    address, _ = cluster.resolve_address(options.address)
    cluster.set_environment(address)

    from orchestrator.screen.plan import make_plan

    config, ledger = read_experiment(options.experiment, options.set, only, options.run_dir)
    cluster.check_run_folder(ledger.path)
    offered = cluster.local_resources() if address is None else cluster.ask(address)
    text, checks = make_plan(config, ledger, offered, tell=print)
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        _nobody_reads()
    for check in blocking(checks)[:1]:
        raise UserError(check.line())
    return BEST
