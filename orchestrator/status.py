"""How a run stands, from a second terminal: `python -m orchestrator.status runs/phase5`. Reads files, changes nothing.

Exit codes: 0 shown, 2 the folder is no run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

from data.errors import UserError, one_line
from data.io import read_json
from data.output import holder_of
from evaluation.results import load_config
from orchestrator.run.ledger import Ledger
from orchestrator.screen.live import live_trial, shown_rows
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
    views = [_view(ledger, name, epochs) for name, epochs in _planned(run, ledger).items()]
    rows = shown_rows([live_trial(view) for view in views])
    align = ["left", "left", *["right"] * 5, "left"]
    return f"{run}: {state}\n\n{tabulate(rows, HEADERS, tablefmt='simple', disable_numparse=True, colalign=align)}"


def _planned(run: Path, ledger: Ledger) -> dict[str, int]:
    """Return how many epochs each trial is to train: those of the configuration, and of folders it does not name."""
    variants: dict[str, Any] = load_config(run).get("variants") or {}
    folders = run / "variants"
    started = (
        sorted(path.name for path in folders.iterdir() if ledger.variant(path.name).metrics.is_file())
        if (folders.is_dir())
        else []
    )
    found: dict[str, int] = {}
    for variant, entry in variants.items():
        own = [name for name in started if name == variant or name.startswith((f"{variant}@", f"{variant}."))]
        found |= {name: int(entry["training"]["epochs"]) for name in own or [variant]}
    return found


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
