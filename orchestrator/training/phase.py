"""The training phase: every unfinished trial, stage by stage, and what each trial is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from evaluation.ending import Ending
from evaluation.measures.rules import Metrics
from models.spec.costs import flops_per_window
from orchestrator.cluster.admission import longest_first
from orchestrator.config.experiment import PlannedTrial
from orchestrator.config.sections import STAGE_METRICS
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.final.rows import check_final_rules
from orchestrator.gates import ended
from orchestrator.run.ledger import Ledger, TrialEnd
from orchestrator.run.records import missing_evidence
from orchestrator.screen.live import LivePage
from orchestrator.screen.monitor import Monitor
from orchestrator.state import Opening, Prepared, Session, Started, Trained
from orchestrator.tracking.gauges import Gauges
from orchestrator.tracking.listeners import Listeners
from orchestrator.training.halving import end_worse_halves
from orchestrator.training.retries import Retries
from orchestrator.training.scheduler import EvaluatorQuestions, GateScheduler
from orchestrator.training.spending import Spending
from orchestrator.training.tuning import Bookkeeper, run_trials
from orchestrator.trials.setup import TrialSetup
from orchestrator.trials.telling import told


def train_all(
    prepared: Prepared,
    started: Started,
    opening: Opening,
    finals: FinalEvaluations,
    session: Session,
) -> Trained:
    """Run every unfinished trial; a later stage only after an earlier one has shown that it can retrieve."""
    config, ledger, trials = prepared.config, prepared.ledger, prepared.config.trials
    stages: Sequence[Sequence[str]] = config.stages or [list(config.resolved_variants)]
    with TrainingPhase(prepared, started, opening, session) as phase:
        for number, stage in enumerate(stages, start=1):
            names = [name for name in by_cost(prepared) if trials[name].variant.name in stage]
            for rung in (*(config.search.halving if config.search else ()), None):
                phase.train(names, rung, f"stage{number}-{rung or 'end'}")
                if rung is not None:
                    end_worse_halves(prepared, phase.judge, rung)
            if number < len(stages) and not stage_passed(prepared, finals, stage):
                later = {name for names in stages[number:] for name in names}
                waiting = [name for name in trials if trials[name].variant.name in later]
                _skip_later(ledger, waiting, number, phase.monitor)
                break
    unknown = TrialEnd(ending=Ending.FAILED, epoch=0, reason="no verdict was recorded")
    return Trained(ends={name: ledger.end_of(name) or unknown for name in trials})


class TrainingPhase:
    """The judge, the monitor and what else the rounds of training share; a context manager around them.

    The processes of a new run's trials start at once. The judge answers them, and the monitor shows them, from the
    `opening` on.
    """

    def __init__(self, prepared: Prepared, started: Started, opening: Opening, session: Session) -> None:
        config, trials = prepared.config, prepared.config.trials
        self._prepared, self._started, self._opening, self._session = prepared, started, opening, session
        self.monitor = Monitor(
            session.stream,
            {name: trial.variant.training.epochs for name, trial in trials.items()},
            costs=epoch_costs(prepared),
            slots=started.admission.slots,
        )
        questions = EvaluatorQuestions(started.evaluator, config.smoke.latency_queries)
        self.judge = GateScheduler(prepared.ledger, trials, questions, Spending(config, prepared.ledger))
        self._retries = Retries({name: trial.variant.training.max_retries for name, trial in trials.items()})
        self._open_things = ExitStack()

    def __enter__(self) -> TrainingPhase:
        # What Tune writes of its own accord; nothing reads it after the phase.
        folder = TemporaryDirectory(prefix="next-vector-tune-", ignore_cleanup_errors=True)
        self._folder_of_tune = Path(self._open_things.enter_context(folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_things.__exit__(kind, error, trace)

    def _open(self) -> None:
        config, ledger, trials = self._prepared.config, self._prepared.ledger, self._prepared.config.trials
        opened = self._opening.open()
        baselines = opened.measured.baselines
        self._open_things.enter_context(self.monitor)
        page = LivePage(ledger.path, config.name, self.monitor.views, baselines)
        self.monitor.on_change = self._open_things.enter_context(page).change
        fail_without_evidence(ledger, trials, self.monitor)
        self.judge.open(
            {name: config.stop_rules(trial.variant, baselines) for name, trial in trials.items()},
            Listeners(self.monitor, opened.tracking, Gauges(config)),
        )
        for name in trials:
            folder, end = ledger.variant(name), ledger.verdict_of(name)
            self.monitor.restored(name, folder.records(), end, earlier=name not in self._session.timeline.trials)

    def _turn(self) -> None:
        self._session.interrupt.check()
        if not self.judge.is_open and self._opening.is_ready():
            self._open()

    def train(self, names: Sequence[str], rung: int | None, label: str) -> None:
        """Run those of the named trials that may go on, to their ends or to the epoch at which they are compared."""
        prepared, started = self._prepared, self._started
        config, ledger = prepared.config, prepared.ledger
        if not self.judge.is_open and ledger.is_claimed():  # what is left to train is known only then
            self._open()
        self.judge.pause_at(rung)
        ready = [name for name in names if may_train(ledger, name, rung)]
        while ready:
            bookkeeper = Bookkeeper(
                ledger,
                self._session.timeline,
                self.monitor,
                judge=self.judge,
                retries=self._retries,
                every_turn=self._turn,
                told=told,
                silence_warning_s=config.resources.silence_warning_s,
            )
            run_trials(
                ready,
                {name: trial_setup(prepared, started, config.trials[name]) for name in ready},
                started.orders,
                slots=started.admission.slots,
                scheduler=self.judge,
                bookkeeper=bookkeeper,
                title=config.title,
                storage=self._folder_of_tune / label,
            )
            if not self.judge.is_open:  # none of them could start
                self._open()
            ready = bookkeeper.to_start_again


def fail_without_evidence(ledger: Ledger, names: Iterable[str], monitor: Monitor) -> None:
    """Record that a trial which survived has failed where what it left is missing or damaged: it is tried again."""
    for name in names:
        end = ledger.end_of(name)
        if end is None or not end.ending.survived:
            continue
        missing = missing_evidence(ledger.variant(name), end)
        if missing is not None:
            decision = ended(Ending.FAILED, end.epoch, "what the trial left is whole", missing)
            ledger.record(name, decision)
            monitor.decided(name, decision)


def may_train(ledger: Ledger, name: str, rung: int | None) -> bool:
    """Return whether a trial goes on: to its end, or to the epoch at which the trials of a variant are compared."""
    end, folder = ledger.verdict_of(name), ledger.variant(name)
    if end is not None:
        # Over, but a survivor may have been cut off before it left its predictions.
        return rung is None and end.ending.survived and not folder.predictions.is_file()
    history = folder.history()
    return rung is None or not history or history[-1].epoch < rung


def by_cost(prepared: Prepared) -> list[str]:
    """Return the trials, the most expensive training first."""
    trials = prepared.config.trials
    return longest_first(
        {name: cost * trials[name].variant.training.epochs for name, cost in epoch_costs(prepared).items()}
    )


def epoch_costs(prepared: Prepared) -> dict[str, int]:
    """Return what an epoch of each trial costs beside those of others: the operations of one window."""
    config, dim = prepared.config, prepared.data.payload.dim
    return {
        name: flops_per_window(trial.variant.spec, dim, config.data.context_length)
        for name, trial in config.trials.items()
    }


def stage_passed(prepared: Prepared, finals: FinalEvaluations, stage: Sequence[str]) -> bool:
    """Return whether a survivor of the stage passes the final gates on R@5 and Contain@50; without such, any does.

    A stage of baselines alone has nothing to show.
    """
    variants = prepared.config.resolved_variants
    ends = {name: end for name in prepared.config.trials if (end := prepared.ledger.end_of(name)) is not None}
    references: dict[str, Metrics] = {name: result.metrics for name, result in finals.baselines.items()}
    # What later stages train is not known yet; `orchestrator.config.references` refuses rules that ask for it.
    results = {name: result for name in variants if (result := finals.variant(name, ends)) is not None}
    references |= {name: result.metrics for name, result in results.items() if variants[name].kind == "baseline"}
    candidates = [name for name in stage if variants[name].kind == "variant"]
    rules = prepared.config.stage_rules
    return not candidates or any(
        all(check.passed for check in check_final_rules(rules, results[name].metrics, references))
        for name in candidates
        if name in results
    )


def _skip_later(ledger: Ledger, names: Sequence[str], number: int, monitor: Monitor) -> None:
    """Record for every trial of the later stages that stage `number` kept it from starting."""
    rule = f"stage {number} passes its final gates on {' and '.join(STAGE_METRICS)}"
    reason = f"not started: no survivor of stage {number} passed the final gates"
    for name in names:
        if ledger.end_of(name) is None:
            decision = ended(Ending.NOT_STARTED, 0, rule, reason)
            ledger.record(name, decision)
            monitor.decided(name, decision)


def trial_setup(prepared: Prepared, started: Started, trial: PlannedTrial) -> TrialSetup:
    """Return what a trial is given."""
    config, payload, admission = prepared.config, prepared.data.payload, started.admission
    variant, folder = trial.variant, prepared.ledger.variant(trial.name)
    return TrialSetup(
        name=trial.name,
        variant=variant,
        seed=trial.seed,
        payload_path=payload.path.resolve(),
        windows=started.windows,
        line=started.line if variant.spec.residual == "fitted" else None,
        smoke_epochs=config.smoke.epochs,
        smoke_latency_queries=config.smoke.latency_queries,
        selection=config.selection(variant),
        pauses=config.search.halving if config.search else (),
        device=admission.device,
        cpus_per_worker=admission.cpus_per_worker,
        gpus_per_worker=admission.gpus_per_worker,
        placement=config.resources.placement,
        evaluator=started.evaluator,
        provenance={
            "experiment": config.name,
            "variant": variant.name,
            "seed": str(trial.seed),
            **({"run": folder.run} if folder.run is not None else {}),
            "config_sha256": config.fingerprint(),
            "payload_sha256": payload.provenance.sha256,
            "embedder": payload.provenance.embedder,
        },
        last=folder.last.resolve(),
        best=folder.best.resolve(),
    )
