"""A run's numbers as gauges of Ray's metrics, for Prometheus and the dashboards on it: see experiments/monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.experiment import ExperimentConfig
from orchestrator.gates import TrialDecision

TAGS = ("experiment", "variant", "seed", "trial")
GAUGES = {
    "epoch": ("next_vector_epoch", "Epochs that a trial has reported"),
    "loss": ("next_vector_loss", "Mean training loss of the last epoch"),
    "steps_per_second": ("next_vector_steps_per_second", "Training steps a second in the last epoch"),
    "val_soft_r@5": ("next_vector_val_soft_recall_5", "Soft R@5 of the last epoch, novel validation windows"),
    "novel.r@5": ("next_vector_novel_recall_5", "Novel R@5 of the last smoke evaluation"),
    "novel.contain@50": ("next_vector_novel_contain_50", "Novel Contain@50 of the last smoke evaluation"),
    "gate_margin": ("next_vector_gate_margin", "Least distance of a metric from the limit of its gate; below 0 fails"),
}


class Gauges:
    """Sets the gauges of a trial after each report and decision."""

    def __init__(self, config: ExperimentConfig) -> None:
        from ray.util.metrics import Gauge

        self._gauges = {key: Gauge(name, about, tag_keys=TAGS) for key, (name, about) in GAUGES.items()}
        self._tags = {
            name: {"experiment": config.name, "variant": one.variant.name, "seed": str(one.seed), "trial": name}
            for name, one in config.trials.items()
        }
        self._margins: dict[tuple[str, int], float] = {}

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """Set what an epoch has reported."""
        numbers = {**record, **(record.get("smoke") or {})}
        for key, gauge in self._gauges.items():
            if isinstance(value := numbers.get(key), (int, float)):
                gauge.set(float(value), tags=self._tags[name])

    def decided(self, name: str, decision: TrialDecision) -> None:
        """Set how near the trial's gates were, the nearest of an epoch."""
        if (margin := decision.margin) is None:
            return
        key = (name, decision.epoch)
        self._margins[key] = min(margin, self._margins.get(key, margin))
        self._gauges["gate_margin"].set(self._margins[key], tags=self._tags[name])
