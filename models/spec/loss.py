"""The weights and options of the training loss. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from data.errors import UserError
from models.spec.ranges import at_least, one_of, positive, within

Negatives = Literal["all", "position"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Weights of the registered losses and their options; a weight of 0 leaves a loss out."""

    infonce: float = 0.7
    """Weight of InfoNCE with the batch's targets as negatives."""
    cosine: float = 0.3
    """Weight of 1 - cosine(prediction, target)."""
    mse: float = 0.0
    """Weight of the squared distance between prediction and target."""
    recall: float = 0.0
    """Weight of 1 - the soft recall of the target among chunks of training windows and the own context. It hardly moves
    targets far from the first ranks, so it is for models that start from a fitted line; give others infonce, too."""
    recall_chunks: int = 6_144
    """How many chunks are drawn for it each step; each stands for as many rows of the payload."""
    recall_temperature: float = 0.01
    """Difference of two cosines over which a chunk passes from below the target to above it."""
    temperature: float = 0.05
    """InfoNCE's temperature; where it is learned, its start."""
    learn_temperature: bool = False
    """Train the temperature, clamped to [0.01, 1]."""
    dense: bool = True
    """Train on all L positions instead of the last one."""
    negatives: Negatives = "position"
    """Negatives of a dense prediction: the batch's targets at the same position, or at all positions. The second choice
    includes other chunks of the same window; it was measured to lower Contain@50."""
    context_negatives: bool = False
    """Add the vectors of the prediction's own context as negatives."""
    article_negatives: int = 0
    """Number of hard negatives of a window, drawn from its article."""

    def __post_init__(self) -> None:
        """Check the ranges; messages begin with the field's name."""
        for field in ("infonce", "cosine", "mse", "recall"):
            within(field, getattr(self, field), 0.0, 1e6)
        if self.infonce + self.cosine + self.mse + self.recall == 0.0:
            raise UserError(
                "infonce: expected infonce, cosine, mse or recall above 0, got 0 for all; give one of them a weight"
            )
        positive("temperature", self.temperature)
        positive("recall_temperature", self.recall_temperature)
        at_least("recall_chunks", self.recall_chunks, 1)
        at_least("article_negatives", self.article_negatives, 0)
        one_of("negatives", self.negatives, get_args(Negatives))
