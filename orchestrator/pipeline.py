"""The stages of a run in order; read this first.

configuration -> data -> preflight -> Ray -> admission -> index and baselines -> preflight of both -> run folder ->
trials -> final evaluation -> decision -> table -> best/. One call a stage; what a stage does lies in the file it is
called from, and what it hands on in state.py.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.io import read_json, write_json
from data.prepare import prepare_data
from evaluation.ending import Ending
from evaluation.queries import save_queries
from models.spec.imported import file_to_ship
from orchestrator import services
from orchestrator.cluster import start as cluster
from orchestrator.cluster.admission import ClusterResources, admit
from orchestrator.config.budget import counts, with_budget
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.final.outcome import conclude
from orchestrator.gates import ended
from orchestrator.preflight import (
    check_data,
    check_inputs,
    check_questions,
    check_retrieval,
    count_imported,
    records,
    stop_if_blocked,
)
from orchestrator.questions import make_questions
from orchestrator.run.ledger import Ledger
from orchestrator.run.manifest import input_hashes, manifest
from orchestrator.run.relaunch import as_launched_before
from orchestrator.run.space import check_space, needed_bytes
from orchestrator.run.timeline import earlier_launches
from orchestrator.state import Measured, Opened, Prepared, Session, Started
from orchestrator.tracking.trackers import check_tracking, make_tracking


def prepare(
    config: ExperimentConfig,
    ledger: Ledger,
    session: Session,
    *,
    fresh: bool,
    verify: bool = False,
    offered: ClusterResources | None = None,
) -> Prepared:
    """Make and check the data; UserError when a check fails or the run folder holds another run. Writes nothing there.

    `offered`: what this machine offers, so that a variant that cannot fit is refused before Ray starts. None for a
    cluster elsewhere, whose resources are known only once it is joined. `verify`: read all of the payload's files.
    """
    check_tracking(config.tracking)
    session.timeline.phase("data")
    check_inputs(config)
    cache = Path(config.data.cache_dir)
    data = prepare_data(config.data, cache, seed=config.seed, verify=verify, tell=session.say)
    session.timeline.phase("preflight")
    checks = check_data(config, data)
    stop_if_blocked(checks)  # before the search for near copies, which means nothing on damaged vectors
    count_imported(config, data.payload.dim)
    config = with_budget(config, data.payload.dim, len(data.splits.train))
    questions = make_questions(config, data)
    checks += check_questions(config, questions)
    stop_if_blocked(checks)
    if offered is not None:
        admit(config, offered, data.payload.dim, has_mps=cluster.has_mps())
    if not ledger.is_complete():
        check_space(ledger.path, needed_bytes(config, data.payload.dim, len(questions.final)))
    if fresh:
        aside = ledger.move_aside()
        if aside is not None:
            session.say(f"the run before is kept in {aside}")
    prepared = Prepared(
        config=as_launched_before(config, ledger),
        ledger=ledger,
        data=data,
        questions=questions,
        checks=tuple(checks),
        hashes=input_hashes(config, data),
    )
    _check_folder(prepared)
    return prepared


def _check_folder(prepared: Prepared) -> None:
    """Raise UserError where the run folder holds another run; from here on the ledger knows which run it is."""
    config = prepared.config
    prepared.ledger.check_same(config.resolved(), config.fingerprint(), prepared.hashes)


def execute(prepared: Prepared, session: Session, *, address: str | None, verbose: bool) -> dict[str, Any]:
    """Train, prune, evaluate and decide; return the content of results.json. Ray lives as long as this function."""
    import ray

    timeline = session.timeline
    timeline.earlier = earlier_launches(prepared.ledger.timeline)
    try:
        timeline.phase("ray")
        started = start(prepared, session, address=address, verbose=verbose)
        if counts(prepared.config, "seconds"):
            timeline.phase("pace")
            from orchestrator.training.pace import with_measured_budget

            prepared = with_measured_budget(prepared, started, session)
            _check_folder(prepared)
        timeline.phase("index")
        opening = IndexOpening(prepared, started, session)
        started = replace(started, orders=services.stream_orders(prepared))
        # Ray Tune takes a second to import; meanwhile the evaluator builds its index.
        from orchestrator.training.phase import train_all
        from orchestrator.training.suggestions import train_generations

        finals = FinalEvaluations(prepared, started)
        train = partial(train_all, started=started, opening=opening, finals=finals, session=session)
        prepared, trained = train_generations(prepared, train, session.say)
        finals.plan(prepared)
        timeline.facts["placement_groups_left"] = cluster.num_placement_groups()
        timeline.phase("final")
        evaluated = finals.evaluate_rows(trained)
        session.interrupt.check()
        opened = opening.open()
        results = conclude(prepared, started, opened.measured, evaluated, timeline)
        opened.tracking.finish(results, prepared.ledger.path)
        return results
    finally:
        ray.shutdown()


class IndexOpening:
    """Index and baselines, their checks, and with these the run folder: no trial takes a step before."""

    def __init__(self, prepared: Prepared, started: Started, session: Session) -> None:
        self._prepared, self._session = prepared, session
        self._asked = services.ask(prepared, started)
        self._opened: Opened | None = None

    def is_ready(self) -> bool:
        """Return whether the evaluator has answered."""
        return self._asked.is_answered()

    def open(self) -> Opened:
        """Wait for the evaluator, finish the preflight and claim the run folder, once.

        Raises:
            PreflightError: a check failed; nothing is claimed.
        """
        if self._opened is None:
            prepared, session = self._prepared, self._session
            measured = finish_preflight(prepared, services.measure(prepared, self._asked, session), session)
            claim(prepared, measured)
            session.timeline.phase("training")
            tracking = make_tracking(prepared.config, prepared.ledger.path, _tags(prepared), session.say)
            self._opened = Opened(measured=measured, tracking=tracking)
        return self._opened


def _tags(prepared: Prepared) -> dict[str, str]:
    """Return what a tracker notes beside the settings: where a figure comes from."""
    stored = read_json(prepared.ledger.manifest)
    tags = {key: str(stored.get(key)) for key in ("git_commit", "config_sha256", "data_sha256", "created_at")}
    return {**tags, "experiment": prepared.config.name}


def job_metadata(prepared: Prepared) -> dict[str, str]:
    """Return what Ray's dashboard says of a run: on the Jobs page the name, the rest by /api/jobs/."""
    config = prepared.config
    return {
        "job_name": config.title,
        "experiment": config.name,
        "run_folder": str(prepared.ledger.path.resolve()),
        "config_sha256": config.fingerprint(),
    }


def start(prepared: Prepared, session: Session, *, address: str | None, verbose: bool) -> Started:
    """Start or join a cluster, and start on it what all trials share; UserError when a variant cannot fit there."""
    modules = [*dict.fromkeys(map(file_to_ship, prepared.config.imported))]
    found = cluster.start(address, verbose, modules, job_metadata(prepared))
    session.interrupt.listen()
    if found.dashboard:
        session.say(f"dashboard {found.dashboard}  (its token: {found.token_path})")
    admission = admit(prepared.config, found.resources, prepared.data.payload.dim, has_mps=cluster.has_mps())
    session.say(f"resources {admission.device}; {admission.arithmetic}")
    session.timeline.slots = admission.slots
    evaluator = services.start_evaluator(prepared, admission.evaluator_threads)
    return Started(
        admission=admission,
        evaluator=evaluator,
        windows=services.share_windows(prepared),
        line=services.fit_line(prepared, evaluator),
        orders={},  # known once the number of epochs is
    )


def finish_preflight(prepared: Prepared, measured: Measured, session: Session) -> Measured:
    """Add the checks that need the index to the others; PreflightError when one of them fails."""
    found = check_retrieval(prepared.config, measured.index["index"], measured.baselines, measured.oracle)
    checks = (*measured.checks, *found)
    stop_if_blocked(checks)
    for check in found:
        if check.verdict in ("warn", "waived"):
            session.say(f"{check.verdict:9} {check.line()}")
    return replace(measured, checks=checks)


def claim(prepared: Prepared, measured: Measured) -> None:
    """Make the run folder this run's own: configuration, manifest, preflight and the final queries."""
    config, ledger = prepared.config, prepared.ledger
    ledger.open(config.resolved(), manifest(config, prepared.hashes))
    write_json(ledger.preflight, records(measured.checks))
    save_queries(ledger.path, prepared.questions.final)


def note_interruption(prepared: Prepared, session: Session) -> None:
    """Record which trials Ctrl-C cut short, and the time spent; a relaunch goes on with them."""
    ledger = prepared.ledger
    if not ledger.is_claimed():
        return
    write_json(ledger.timeline, session.timeline.summary())
    for name in prepared.config.with_drawn(ledger.drawn()).trials:
        epochs = ledger.variant(name).history()
        if epochs and ledger.end_of(name) is None:
            rule = "the trial runs to its end"
            ledger.record(name, ended(Ending.INTERRUPTED, epochs[-1].epoch, rule, "interrupted"))
