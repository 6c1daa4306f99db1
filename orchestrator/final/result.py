"""The final figures of one trial, of one row, and of all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.measures.latency import Latency
from evaluation.statistics.outcomes import Outcomes


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalResult:
    """One survivor's or baseline's final figures, and the per-query outcomes behind them."""

    metrics: dict[str, Any]
    ci: dict[str, Any]
    outcomes: Outcomes
    predict: Latency
    chosen: Mapping[str, Any]
    """What a fitted baseline chose on validation windows; empty for trained rows."""
    checkpoint_sha256: str | None = None
    checkpoint_epoch: int | None = None
