"""The judge's answers on their way to a trial: a word in the cluster's own table of keys and values.

Ray's head keeps that table, so no process is started for it and every node reaches it.
"""

from __future__ import annotations

import time
from typing import get_args

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from orchestrator.trials.setup import Verdict

_NAMESPACE = b"next-vector"
_POLL_S = 0.02


def answer(report: str, verdict: Verdict) -> None:
    """Answer a report, which has a name of its own: one of an earlier attempt is never taken for it."""
    _internal_kv_put(report.encode(), verdict.encode(), overwrite=True, namespace=_NAMESPACE)


def wait_for_answer(report: str) -> Verdict:
    """Return the answer to a report; waits until it is there, so that no step is trained beyond a verdict."""
    while (found := _internal_kv_get(report.encode(), namespace=_NAMESPACE)) is None:
        time.sleep(_POLL_S)
    word: Verdict = next(word for word in get_args(Verdict) if word == found.decode())
    return word
