"""What a person sees while trials run: one live table on a terminal, one line a state change without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evaluation.ending import Ending
from evaluation.report.columns import duration
from orchestrator.gates import TrialDecision
from orchestrator.run.ledger import TrialEnd
from orchestrator.run.progress import Progress

_SHOWN_SMOKE = (("r@5", "R@5"), ("contain@50", "Cont@50"))
_BAD = (Ending.FAILED.word, Ending.DIVERGED.word)
TELL_EVERY_S = 60.0
"""Without a terminal a line is printed so often inside an epoch."""
_TOLD = (Ending.PRUNED.word, Ending.EARLY_STOPPED.word, Ending.INTERRUPTED.word)
"""Ends whose reason stands below the table; all epochs, or being halved, needs none."""


@dataclass(slots=True)
class TrialView:
    """What is shown of one trial."""

    name: str
    num_epochs: int
    state: str = "waiting"
    epoch: int = 0
    loss: float | None = None
    smoke: Mapping[str, float] = field(default_factory=dict)
    gates: str = ""
    began: float | None = None
    paced: float = 0.0  # when its epochs were last counted
    epochs_here: int = 0
    reason: str = ""
    node: str = ""
    steps_per_second: float | None = None
    cost: float = 1.0  # of an epoch, beside other trials'
    inside: float = 0.0  # the share of the next epoch that is done
    windows_per_second: float | None = None
    told: float = 0.0  # when a line was printed of it last

    def eta_s(self) -> float | None:
        """Return the seconds left at this trial's own pace; None before its first steps here."""
        pace = self.epoch_s()
        return None if self.state != "running" or pace is None else pace * self.epochs_left()

    def epoch_s(self) -> float | None:
        """Return the seconds of an epoch here; None before the first steps."""
        done = self.epochs_here + self.inside
        return None if self.began is None or not done else (self.paced - self.began) / done

    def epochs_left(self) -> float:
        """Return how many epochs there are still to train, unless a rule ends the trial before."""
        return max(0.0, self.num_epochs - self.epoch - self.inside)

    def shown_epoch(self) -> str:
        """Return the epochs done of all, with a tenth of the one that is being trained."""
        return f"{self.epoch + self.inside:.1f}/{self.num_epochs}" if self.inside else f"{self.epoch}/{self.num_epochs}"


def take_record(view: TrialView, record: Mapping[str, Any]) -> None:
    """Take an epoch's record into a trial's view."""
    view.steps_per_second = record.get("steps_per_second", view.steps_per_second)
    view.epoch, view.loss, view.inside = record["epoch"], record.get("loss"), 0.0
    view.smoke = record.get("smoke") or view.smoke
    view.node = record.get("node") or view.node


class Monitor:
    """Keeps a view of every trial and shows it. A context manager around the training phase."""

    def __init__(
        self, stream: TextIO, trials: Mapping[str, int], *, costs: Mapping[str, float] | None = None, slots: int = 1
    ) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self.views = {
            name: TrialView(name, num_epochs, cost=(costs or {}).get(name, 1.0)) for name, num_epochs in trials.items()
        }
        self._slots = slots
        self.on_change: Callable[[], None] = lambda: None
        self._started = time.time()
        self._live: Live | None = None

    def __enter__(self) -> Monitor:
        if self.console.is_terminal:
            # Left alone, Live would bring sys.stdout back to the terminal, and Ray's chatter with it.
            self._live = Live(
                get_renderable=self.table,
                console=self.console,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print one line, above the live table if there is one."""
        self.console.print(text, markup=False, emoji=False)

    def restored(
        self, name: str, records: Sequence[Mapping[str, Any]], end: TrialEnd | None, *, earlier: bool = True
    ) -> None:
        """Take in what is there of a trial; `earlier`: an earlier launch has left it, which is worth a line."""
        view = self.views[name]
        for record in records:
            take_record(view, record)
        if end is not None:
            view.state, view.reason = end.ending.word, end.reason
        if end is not None and earlier:
            self.say(f"  {name}: {end.ending.name} at epoch {end.epoch}, kept from the earlier launch")

    def started(self, name: str) -> None:
        """A trial got its slot."""
        view = self.views[name]
        self.on_change()
        view.state = "starting"
        self._state(f"{name}: started" + (f" again after epoch {view.epoch}" if view.epoch else ""))

    def paused(self, name: str) -> None:
        """A trial returned to be compared with the others of its variant."""
        self.views[name].state = "waiting"

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """A trial reported an epoch."""
        view = self.views[name]
        view.state, view.told = "running", time.time()
        if record["epoch"] > 0:  # epoch 0 has no steps and would make the others seem short
            view.began = view.began or record.get("first_step_at") or time.time()
            view.epochs_here += 1
            view.paced = time.time()
        take_record(view, record)
        self.on_change()
        if record.get("went_back"):
            self.say(f"  {name}: {record['went_back']}")
        smoke = f", {_smoke(view.smoke)}" if record.get("smoke") else ""
        loss = f", loss {_number(view.loss)}" if record["epoch"] > 0 else ", before the first step"
        self._state(f"{name}: epoch {view.epoch}/{view.num_epochs}{loss}{smoke}")

    def progressed(self, name: str, progress: Progress) -> None:
        """A trial told how far it is inside an epoch."""
        view, now = self.views[name], time.time()
        if view.state not in {"starting", "running"} or progress.epoch != view.epoch + 1:
            return  # told before the report that is here already, or by an earlier attempt
        if view.began is None:
            view.began = now - progress.seconds
        view.told = view.told or view.began
        view.state, view.inside, view.paced, view.loss = "running", progress.share, now, progress.loss
        view.windows_per_second = progress.windows_per_second
        if now - view.told >= TELL_EVERY_S:
            view.told = now
            step = f"step {progress.step:,} of {progress.steps:,} in epoch {progress.epoch}/{view.num_epochs}"
            self._state(f"{name}: {step}, loss {_number(view.loss)}, {progress.windows_per_second:,.0f} windows/s")

    def left_s(self) -> float | None:
        """Return the seconds until all trials have ended, should no rule end one before; None before the first steps.

        A trial that has not begun is given the others' pace, by what its epochs cost.
        """
        paces = {view.name: pace for view in self.views.values() if (pace := view.epoch_s()) is not None}
        if not paces:
            return None
        rate = sum(pace / self.views[name].cost for name, pace in paces.items()) / len(paces)
        going = [view for view in self.views.values() if view.state in {"waiting", "starting", "running"}]
        left = [paces.get(view.name, rate * view.cost) * view.epochs_left() for view in going]
        return max(sum(left) / self._slots, max(left, default=0.0))

    def decided(self, name: str, decision: TrialDecision) -> None:
        """A rule was applied to a trial."""
        view = self.views[name]
        self.on_change()
        if decision.action == "warn":
            view.gates = "marginal"
            self._state(f"{name}: warning at epoch {decision.epoch}: {decision.reason}")
        elif decision.action == "continue":
            view.gates = view.gates or "passed"
        elif decision.ending and view.state not in {Ending.FINISHED.word, Ending.PRUNED.word}:
            self._ended(name, decision, decision.ending)

    def _ended(self, name: str, decision: TrialDecision, ending: Ending) -> None:
        view = self.views[name]
        view.state, view.reason = ending.word, decision.reason
        if ending is Ending.PRUNED:
            view.gates = "failed"
        self._state(f"{name}: {view.state} at epoch {decision.epoch}: {decision.reason}")

    def _state(self, text: str) -> None:
        if not self.console.is_terminal:
            self.say(f"  [{time.time() - self._started:5.0f} s] {text}")

    def table(self) -> Group:
        """Return the live table, the trials that run first, and below it why others ended."""
        left = self.left_s()
        title = duration(time.time() - self._started) + (f", at most {duration(left)} left" if left else "")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        smoke = [title for _, title in _SHOWN_SMOKE]
        for header in ("variant", "state", "epoch", "loss", "win/s", *smoke, "gates", "left"):
            numeric = header not in {"variant", "state", "gates"}
            table.add_column(header, justify="right" if numeric else "left", no_wrap=True)
        # A low terminal cuts off what comes last.
        views = sorted(self.views.values(), key=place)
        for view in views:
            eta = view.eta_s()
            table.add_row(
                view.name,
                view.state,
                view.shown_epoch(),
                _number(view.loss),
                f"{view.windows_per_second:,.0f}" if view.windows_per_second and view.state == "running" else "",
                *(_per_cent(view.smoke.get(key)) for key, _ in _SHOWN_SMOKE),
                view.gates,
                duration(eta) if eta is not None else "",
                style="dim" if view.state == "waiting" else "red" if view.state in _BAD else None,
            )
        # Text, since an error's brackets are no markup: one of them would end the run.
        reasons = [Text(f"  {one.name} {one.state}: {one.reason}") for one in views if one.state in {*_BAD, *_TOLD}]
        return Group(table, *reasons)


def place(view: TrialView) -> int:
    """Return where a trial is shown: those that run first, then those that wait, then those that ended."""
    return 0 if view.state in {"running", "starting"} else 1 if view.state == "waiting" else 2


def _smoke(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{title} {_per_cent(metrics.get(key))}" for key, title in _SHOWN_SMOKE)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _per_cent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
