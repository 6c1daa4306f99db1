"""Writes live.html while trials run: in a thread of its own, and seldom, so that no trial waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from data.io import write_text
from evaluation.measures.metrics import DECISION_METRIC, NOVEL
from evaluation.report.columns import MISSING, duration, per_cent
from orchestrator.screen.live_page import LiveTrial, done_page, live_page
from orchestrator.screen.monitor import TrialView, place

LIVE_FILE = "live.html"
LEAST_S = 10.0
"""Between two pages: making one takes some tenths of a second of a core that trials use."""


class LivePage:
    """A page that is written after changes; a context manager around the training phase."""

    def __init__(
        self,
        run: Path,
        title: str,
        views: Mapping[str, TrialView],
        baselines: Mapping[str, Mapping[str, float]],
        least_s: float = LEAST_S,
    ) -> None:
        self._run, self._title, self._views, self._baselines = run, title, views, baselines
        self._least_s, self._began = least_s, time.time()
        self._changed, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_on_change, name="live.html", daemon=True)

    def __enter__(self) -> LivePage:
        self.write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._changed.set()
        self._thread.join(timeout=30)
        self.write()

    def change(self) -> None:
        """Say that something has changed; the page follows within some seconds."""
        self._changed.set()

    def write(self) -> None:
        """Write the page now. A page that cannot be written ends no training."""
        try:
            trials = [live_trial(view) for view in sorted(self._views.values(), key=place)]
            since = f"for {duration(time.time() - self._began)}"
            text = live_page(self._run, self._title, since, trials, self._baselines)
            write_text(self._run / LIVE_FILE, text)
        except Exception as error:  # whatever it is, the trials matter more
            print(f"{self._run / LIVE_FILE}: {error}")  # noqa: T201  # goes to ray.log

    def _write_on_change(self) -> None:
        while not self._over.is_set():
            self._changed.wait()
            self._changed.clear()
            self.write()
            self._over.wait(self._least_s)


def live_trial(view: TrialView) -> LiveTrial:
    """Return a trial's line as text."""
    eta = view.eta_s()
    return LiveTrial(
        name=view.name,
        state=view.state,
        epoch=view.shown_epoch(),
        loss="" if view.loss is None else f"{view.loss:.3f}",
        novel=_shown(view, DECISION_METRIC),
        contain=_shown(view, NOVEL + "contain@50"),
        steps="" if view.steps_per_second is None else f"{view.steps_per_second:.1f}",
        left="" if eta is None else duration(eta),
        node=view.node,
        why=view.reason,
    )


def _shown(view: TrialView, key: str) -> str:
    return per_cent(key)(dict(view.smoke)).replace(MISSING, "")


def end_page(run: Path, title: str) -> None:
    """Let the page lead on to the report."""
    if (run / LIVE_FILE).is_file():
        write_text(run / LIVE_FILE, done_page(title))
