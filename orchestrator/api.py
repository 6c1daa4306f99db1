"""A run from Python: `from orchestrator import launch; results = launch("experiments/phase5.yaml")`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.interpreter import check_interpreter
from data.io import read_json
from data.output import forget_dead_holder, held
from orchestrator.cluster import start as cluster
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config
from orchestrator.run.faults import RunError, one_line
from orchestrator.run.ledger import Ledger
from orchestrator.run.mirror import Mirror
from orchestrator.run.space import disk_full


def launch(
    experiment: str | Path,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),
    only: Sequence[str] = (),
    run_dir: str | Path | None = None,
    fresh: bool = False,
    address: str | None = None,
    verify: bool = False,
    verbose: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run an experiment as `python -m orchestrator.launch` does and return the content of its results.json.

    A run that is complete is read and not repeated; one that was interrupted goes on.

    Args:
        experiment: The experiment file.
        set: Values by dotted key, `{"training.epochs": 2}`, or texts, `["training.epochs=2"]`.
        only: Train these variants only.
        run_dir: The run folder; None: `runs/<name>`, as the experiment says.
        fresh: Move the old run to `<run_dir>.old-<time>`, where the last two are kept, and start over.
        address: Join a running Ray cluster instead of starting one.
        verify: Read all of the payload's files and compare their hashes; else sizes and samples.
        verbose: Let Ray's own output through.
        quiet: Print nothing.

    Raises:
        UserError: The experiment, its data or the cluster is not as expected, in one line.
        RunError: Anything else that went wrong while the run lasted.
    """
    config, ledger = read_experiment(experiment, set, only, run_dir)
    address, joined = cluster.resolve_address(address)
    warning = cluster.check_run_folder(ledger.path)
    with ExitStack() as stack:
        stream = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")) if quiet else sys.stdout
        if fresh or not ledger.is_complete():  # a complete run is only read
            stack.enter_context(held(ledger.path, "run"))
        else:
            forget_dead_holder(ledger.path)  # the launch that completed it may have been killed as its last act
        for line in filter(None, (joined, warning)):
            print(line, file=stream, flush=True)
        return _run(config, ledger, stream, fresh=fresh, address=address, verify=verify, verbose=verbose)


def read_experiment(
    experiment: str | Path,
    set: Mapping[str, Any] | Sequence[str] = (),
    only: Sequence[str] = (),
    run_dir: str | Path | None = None,
) -> tuple[ExperimentConfig, Ledger]:
    """Return the checked configuration and its run folder; see `launch` for the arguments."""
    # JSON is YAML, so a value is checked like one that was typed.
    texts = (
        [f"{key}={json.dumps(value, default=str)}" for key, value in set.items()] if isinstance(set, Mapping) else set
    )
    config = load_config(Path(experiment), tuple(texts), tuple(only))
    return config, Ledger(Path(run_dir or Path(config.run_dir) / config.name))


def _run(
    config: ExperimentConfig,
    ledger: Ledger,
    stream: Any,
    *,
    fresh: bool,
    address: str | None,
    verify: bool,
    verbose: bool,
) -> dict[str, Any]:
    cluster.set_environment(address)  # before anything imports Ray
    from orchestrator import pipeline
    from orchestrator.final.outcome import restore_renderings
    from orchestrator.screen import summary
    from orchestrator.state import Session

    offered = None
    if address is None:
        check_interpreter()
        offered = cluster.local_resources()
    session = Session(stream=stream)
    mirror = Mirror(config.mirror, config.name, ledger, session.say) if config.mirror else None
    if mirror is not None and not fresh and mirror.bring_back():
        session.say(f"mirror    {config.mirror}: brought back to {ledger.path}")
    prepared = pipeline.prepare(config, ledger, session, fresh=fresh, verify=verify, offered=offered)
    if mirror is not None and fresh:
        mirror.move_aside()
    with nullcontext() if mirror is None else mirror.kept():
        if ledger.is_complete():
            results: dict[str, Any] = read_json(ledger.results)
            restore_renderings(prepared, results, session)
            summary.show_complete(ledger, results, session)
            return results
        summary.show_start(prepared, session)
        try:
            with session.interrupt, cluster.chatter_to(ledger.log, stream, verbose) as inner:
                seen = replace(session, stream=inner)
                with nullcontext() if mirror is None else mirror.speaking(seen.say):
                    results = pipeline.execute(prepared, seen, address=address, verbose=verbose)
        except KeyboardInterrupt:
            pipeline.note_interruption(prepared, session)
            raise
        except Exception as error:
            if _is_bad_input(error):
                ledger.discard_unclaimed()
                raise
            raise _explained(error, ledger) from error
        summary.show_end(ledger, results, session)
    return results


def _is_bad_input(error: Exception) -> bool:
    """Return whether the person can correct it; Ray gives a UserError raised inside a task the same type."""
    from ray.exceptions import RayError

    return isinstance(error, UserError) and not isinstance(error, RayError)


def _explained(error: Exception, ledger: Ledger) -> RunError:
    ledger.log.parent.mkdir(parents=True, exist_ok=True)
    with ledger.log.open("a", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    return RunError(
        f"{disk_full(error, ledger.path) or one_line(error)}; the traceback is in {ledger.log}; "
        "type the same command again to continue from the last checkpoints"
    )
