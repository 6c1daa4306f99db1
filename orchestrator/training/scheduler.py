"""The judge: a thin Tune shell over the pure rules in gates.py, and the one writer of what trials report.

Every report is written, judged once, recorded and answered. The trial waits for the answer and returns by itself when
it is over. So its slot comes back by Tune's ordinary end of a trial. Tune is never told to stop one: a STOP kills a
worker group and with Ray 2.60 leaves its placement group behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.gates import Epoch, StopRules, TrialDecision
from orchestrator.run.ledger import Ledger, epoch_of
from orchestrator.run.records import keep_epoch, keep_last, keep_predictions, keep_smoke
from orchestrator.tracking.listeners import Listener, Listeners
from orchestrator.training.spending import Spending
from orchestrator.trials.setup import Verdict, files_of, from_report
from orchestrator.trials.verdicts import answer


class SmokeQuestions(Protocol):
    """What the judge asks the evaluator about a trial's last smoke predictions."""

    def time_again(self, name: str) -> dict[str, float]:
        """Measure the latency once more: others may have been training."""

    def triage(self, name: str) -> list[dict[str, Any]]:
        """Say why the predictions retrieve so little."""


class GateScheduler(FIFOScheduler):  # type: ignore[misc]
    """Writes and judges every reported epoch and answers it.

    Until it is opened no trial is answered, and so none takes a step: their processes start while index and baselines
    are measured, which the rules are about.
    """

    def __init__(
        self, ledger: Ledger, names: Iterable[str], questions: SmokeQuestions, spending: Spending | None = None
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._questions = questions
        self._spending = spending
        self._rules: Mapping[str, StopRules] = {}
        self._listener: Listener = Listeners()
        self._history: dict[str, list[Epoch]] = {name: [] for name in names}
        self._verdicts: dict[str, Verdict] = {}
        self._recorded: dict[str, set[tuple[int, str]]] = {}  # by earlier launches
        self._waiting: list[tuple[str, str]] = []  # trials and their questions from before the opening
        self._held: list[tuple[str, TrialDecision]] = []  # ends of trials that could not start, from before it too
        self._given_up: set[str] = set()
        self._pause_at: int | None = None
        self.num_judged = 0

    def __getstate__(self) -> dict[str, Any]:
        """Give Tune's pickle nothing: the run is restored from the ledger."""
        return {}

    @property
    def is_open(self) -> bool:
        """Return whether the rules are known."""
        return bool(self._rules)

    def open(self, rules: Mapping[str, StopRules], listener: Listener) -> None:
        """Judge from here on by these rules, and answer the trials that wait."""
        self._rules, self._listener = rules, listener
        self._replay()
        for name, decision in self._held:
            self._write(name, decision)
        for name, report in self._waiting:
            answer(report, self._standing(name))

    def _replay(self) -> None:
        """Take in what the run folder holds, and decide what a crash left undecided."""
        for name in self._rules:
            self._recorded[name] = recorded = self._ledger.recorded_rules(name)
            for epoch in self._ledger.variant(name).history():
                self._history[name].append(epoch)
                decisions = self._rules[name].decide(self._history[name])
                self._record(name, [one for one in decisions if (one.epoch, one.rule) not in recorded])
            end = self._ledger.end_of(name)
            if end is not None and end.ending.unfinished and self._was_over(name, recorded):
                self._history[name].pop()  # what it left was lost: it is trained again, and its last epoch judged again
            if end is not None and not end.ending.unfinished:
                self._verdicts[name] = "survived" if end.ending.survived else "ended"

    def _was_over(self, name: str, recorded: Set[tuple[int, str]]) -> bool:
        history = self._history[name]
        decisions = [*self._rules[name].decide(history), *self._spent(name)] if history else []
        return any(one.ending and (one.epoch, one.rule) in recorded for one in decisions)

    def pause_at(self, epoch: int | None) -> None:
        """Let every trial return after this epoch without an end, to be compared with others; None: let none."""
        self._pause_at = epoch

    def is_paused(self, name: str) -> bool:
        """Return whether a trial returned to be compared."""
        history = self._history[name]
        return name not in self._verdicts and bool(history) and history[-1].epoch == self._pause_at

    def is_over(self, name: str) -> bool:
        """Return whether a trial has ended, whichever way."""
        return name in self._verdicts

    def give_up(self, name: str) -> None:
        """Let Tune start a trial that broke off no more."""
        self._given_up.add(name)

    def end(self, name: str, decision: TrialDecision) -> None:
        """Record an end that no report of the trial itself called for."""
        self._record(name, [decision])

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """Return the next trial to start; one that broke off too often, or after its end, is not started again."""
        for trial in tune_controller.get_trials():
            name = trial.config["trial"]
            if trial.status == Trial.PENDING and (name in self._given_up or self._verdicts.get(name) == "ended"):
                tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Take a report in and answer it; Tune itself is told to go on, since the trial ends by itself."""
        try:
            files = {file: ray.get(reference) for file, reference in files_of(result).items()}
        except RayError:
            # The files went with the trial's process: nobody waits for an answer, and Tune is about to say so.
            return str(TrialScheduler.CONTINUE)
        if not self.is_open:
            if from_report(result) is not None:
                self._waiting.append((trial.config["trial"], result["report"]))
            return str(TrialScheduler.CONTINUE)
        # Outside: an evaluator that is gone ends the run, where a trial without an answer would wait for ever.
        verdict = self.take(trial.config["trial"], result, files)
        if verdict is not None:
            answer(result["report"], verdict)
        return str(TrialScheduler.CONTINUE)

    def take(self, name: str, result: Mapping[str, Any], files: Mapping[str, Any]) -> Verdict | None:
        """Write and judge a report with its files; None for the reports that Tune makes up itself.

        An empty record asks what was decided before; nothing else than predictions is taken from a trial that is over.
        """
        record = from_report(result)
        if record is None:
            return None
        folder, verdict = self._ledger.variant(name), self._verdicts.get(name, "continue")
        if not record:
            return self._standing(name)
        if verdict == "survived" and "predicted" in record:
            keep_predictions(folder, record["predicted"], files["predictions.npy"])
        if verdict != "continue":
            return "ended"
        if "leaves" in record:
            keep_last(folder, files["last.pt"])
            return "continue"
        record = self._timed_again(name, record)
        keep_epoch(folder, record, files)
        self._listener.epoch(name, record)
        if not self._history[name] or record["epoch"] > self._history[name][-1].epoch:
            self._judge(name, record)
        return self._standing(name)

    def _standing(self, name: str) -> Verdict:
        """Return what a trial that begins is told."""
        return "ended" if self.is_paused(name) else self._verdicts.get(name, "continue")

    def _timed_again(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with a second measurement of a latency that would fail its gate."""
        if not record.get("smoke") or not self._rules[name].latency_fails(epoch_of(record)):
            return record
        again = {**self._questions.time_again(name), "p95_ms_first": record["smoke"]["p95_ms"]}
        return {**record, "smoke": {**record["smoke"], **again}}

    def _judge(self, name: str, record: dict[str, Any]) -> None:
        self.num_judged += 1
        self._history[name].append(epoch_of(record))
        decisions = [
            one
            for one in self._rules[name].decide(self._history[name])
            if one.ending or (one.epoch, one.rule) not in self._recorded[name]
        ]
        if record.get("smoke"):
            pruned = any(one.ending and not one.ending.survived for one in decisions)
            triage = self._questions.triage(name) if pruned else []
            keep_smoke(self._ledger.variant(name), record, triage)
        self._record(name, decisions)
        if self._pause_at is None and name not in self._verdicts:
            self._record(name, self._spent(name))

    def _spent(self, name: str) -> list[TrialDecision]:
        """Return the end of a trial whose share of its search's seconds is spent, if it is."""
        decision = None if self._spending is None else self._spending.decide(name)
        return [] if decision is None else [decision]

    def _record(self, name: str, decisions: Sequence[TrialDecision]) -> None:
        for decision in decisions:
            if self.is_open:
                self._write(name, decision)
            else:
                self._held.append((name, decision))  # there is no folder for it yet
            if decision.ending:
                self._verdicts[name] = "survived" if decision.ending.survived else "ended"

    def _write(self, name: str, decision: TrialDecision) -> None:
        self._ledger.record(name, decision)
        self._listener.decided(name, decision)

    def debug_string(self) -> str:
        """Return one line for Tune's own display."""
        return f"GateScheduler: {self.num_judged} epochs judged, {len(self._verdicts)} trials ended"


class EvaluatorQuestions:
    """The judge's questions, asked of the evaluation actor."""

    def __init__(self, evaluator: Any, num_timed: int) -> None:
        self._evaluator = evaluator
        self._num_timed = num_timed

    def time_again(self, name: str) -> dict[str, float]:
        """Return the latency metrics of a second measurement."""
        found: dict[str, float] = ray.get(self._evaluator.time_again.remote(name, "smoke", self._num_timed))
        return found

    def triage(self, name: str) -> list[dict[str, Any]]:
        """Return the evaluator's answers, see evaluation.retrieval.triage."""
        found: list[dict[str, Any]] = ray.get(self._evaluator.triage.remote(name, "smoke"))
        return found
