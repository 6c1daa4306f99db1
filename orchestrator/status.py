"""How a run stands, from a second terminal: `python -m orchestrator.status runs/phase5`. Reads files, changes nothing.

Exit codes: 0 shown, 2 the folder is no run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from data.errors import UserError, one_line
from data.io import read_json
from data.output import holder_of
from evaluation.results import load_config
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.validation import validate
from orchestrator.run.ledger import Ledger
from orchestrator.screen.live import live_trial
from orchestrator.screen.monitor import TrialView, take_record

HEADERS = ("trial", "state", "epoch", "loss", "novel R@5 %", "novel Cont@50 %", "left", "")


def status(run: Path) -> str:
    """Return who is at work on a run, and a line a trial; UserError when the folder is no run."""
    ledger = Ledger(run)
    if not ledger.is_claimed():
        raise UserError(f"{run}: expected a run folder with manifest.json, got none; name a run that has started")
    if ledger.results.is_file():
        verdict = read_json(ledger.results).get("verdict")
        state = f"ended: {verdict}"
    else:
        holder = holder_of(run)
        state = f"running: {holder}" if holder else "not running; the same launch command goes on with it"
    trials = validate(ExperimentConfig, load_config(run), "").trials
    shown = [live_trial(_view(ledger, name, trial.variant.training.epochs)) for name, trial in trials.items()]
    rows = [[one.name, one.state, one.epoch, one.loss, one.novel, one.contain, one.left, one.why] for one in shown]
    align = ["left", "left", *["right"] * 5, "left"]
    return f"{run}: {state}\n\n{tabulate(rows, HEADERS, tablefmt='simple', disable_numparse=True, colalign=align)}"


def _view(ledger: Ledger, name: str, epochs: int) -> TrialView:
    view = TrialView(name, epochs)
    for record in ledger.variant(name).records():
        take_record(view, record)
        view.state = "running"
    end = ledger.end_of(name)
    if end is not None:
        view.state, view.reason = end.ending.word, end.reason
    return view


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module for the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.status", description="Show how a run stands.")
    parser.add_argument("run", type=Path, help="run folder")
    try:
        sys.stdout.write(status(parser.parse_args(arguments).run) + "\n")
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
