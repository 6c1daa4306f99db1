"""How far a trial is inside an epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """`step` of `steps` of an epoch are done; loss, speed and seconds are those of the epoch so far."""

    epoch: int
    step: int
    steps: int
    loss: float
    windows_per_second: float
    seconds: float

    @property
    def share(self) -> float:
        """Return the share of the epoch that is done, 0 to 1."""
        return self.step / self.steps if self.steps else 0.0
