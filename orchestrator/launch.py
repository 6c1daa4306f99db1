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
import traceback
from pathlib import Path

from data.errors import UserError
from data.interpreter import check_interpreter
from orchestrator.cluster import start as cluster
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config
from orchestrator.preflight import PreflightError
from orchestrator.run.ledger import Ledger

BEST, FAILED, BAD_INPUT, NO_SURVIVOR, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        only = tuple(name for name in (options.only or "").split(",") if name)
        config = load_config(options.experiment, tuple(options.set), only)
        ledger = Ledger(Path(options.run_dir or Path(config.run_dir) / config.name))
        if options.dry_run:
            return _dry_run(config, ledger)
        return _launch(config, ledger, options)
    except PreflightError as error:
        _complain(f"{error.table}\n{error}")
        return BAD_INPUT
    except UserError as error:
        _complain(" ".join(str(error).split()))
        return BAD_INPUT
    except OSError as error:
        _complain(f"{error}; mend the path, its permissions or the disk and type the same command again")
        return FAILED
    except KeyboardInterrupt:
        _complain("interrupted; type the same command again to continue from the last checkpoints")
        return INTERRUPTED


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


def _dry_run(config: ExperimentConfig, ledger: Ledger) -> int:
    from orchestrator.screen.plan import plan_text

    plan = plan_text(config, ledger)
    try:
        print(plan, flush=True)  # noqa: T201
    except BrokenPipeError:
        # `| head` has read enough; without this the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BEST


def _launch(config: ExperimentConfig, ledger: Ledger, options: argparse.Namespace) -> int:
    cluster.set_environment(options.address)
    from orchestrator import pipeline
    from orchestrator.screen import summary

    if options.address:
        offered = None
    else:
        check_interpreter()
        offered = cluster.local_resources()
    run = pipeline.prepare(config, ledger, sys.stdout, fresh=options.fresh, offered=offered)
    if ledger.is_complete():
        summary.show_complete(run)
        return summary.exit_code(ledger)
    summary.show_start(run)
    try:
        with run.interrupt, cluster.chatter_to(ledger.log, options.verbose) as stream:
            run.stream = stream
            results = pipeline.execute(run, address=options.address, verbose=options.verbose)
    except KeyboardInterrupt:
        pipeline.note_interruption(run)
        raise
    except Exception as error:
        if _is_bad_input(error):
            raise
        with ledger.log.open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        # What a task raised says more than Ray's wrapping of it, which begins with the traceback.
        cause = getattr(error, "cause", None) or error
        _complain(
            f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}; the traceback is in {ledger.log}; "
            "type the same command again to continue from the last checkpoints"
        )
        return FAILED
    run.stream = sys.stdout
    summary.show_end(run, results)
    return summary.exit_code(ledger)


def _is_bad_input(error: Exception) -> bool:
    """Return whether the person can mend it; Ray gives a UserError raised inside a task the same type."""
    from ray.exceptions import RayError

    return isinstance(error, UserError) and not isinstance(error, RayError)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
