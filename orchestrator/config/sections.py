"""The sections of an experiment file: every key, its type and its default.

Packages own their settings: `DataConfig`, `IndexConfig`, `LossConfig`, `OptimConfig` and the variants' sizes are plain
dataclasses there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from data.windows.novelty import NOVEL_BELOW
from evaluation.measures.rules import parse_rule
from models.spec.loss import LossConfig
from models.spec.optim import OptimConfig, Precision
from orchestrator.gates import EarlyStopping, Gate

LEARNED_BASELINES = ("amn", "linear")
"""Models that are trained, never pruned by gates and never `best`."""
BEST_BASELINE = "best_baseline"
"""Value of `gates.reference`: the baseline of the run that is best at the end."""

STAGE_METRICS = ("r@5", "contain@50")
"""Final gates on these decide whether the next stage starts: latency is for the end."""

OPTUNA_DRAWS = 4
"""Settings of a generation where `search.generation` is left out."""

EpochMetric = Literal["val_soft_r@5", "val_soft_r@50", "val_mrr", "val_cosine", "val_loss"]

RuleText = Annotated[str, BeforeValidator(lambda text: parse_rule(str(text)).text)]


class Section(BaseModel):
    """A mapping of the YAML: no unknown keys, no changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EarlyStoppingConfig(Section):
    """When a trial that no longer improves ends, and which epoch's weights `best.pt` holds."""

    metric: EpochMetric = "val_soft_r@5"
    patience: Annotated[int, Field(ge=1)] = 3
    min_delta: Annotated[float, Field(ge=0)] = 0.0

    def rule(self) -> EarlyStopping:
        """Return the pure rule."""
        mode: Literal["max", "min"] = "min" if self.metric == "val_loss" else "max"
        return EarlyStopping(metric=self.metric, mode=mode, patience=self.patience, min_delta=self.min_delta)


class TrainingConfig(Section):
    """How every variant is trained; `variants.<name>.training` overrides single keys for one of them."""

    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 256
    workers: Annotated[int, Field(ge=1)] = 1
    loss: LossConfig = LossConfig()
    optimizer: OptimConfig = OptimConfig()
    precision: Precision = "auto"
    compile: bool | Literal["auto"] = "auto"
    """Let torch.compile fuse a GPU's kernels; auto: in trainings long enough to gain by it."""
    early_stopping: EarlyStoppingConfig | None = EarlyStoppingConfig()
    val_windows: Annotated[int, Field(ge=1)] = 4096
    max_retries: Annotated[int, Field(ge=0)] = 1
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 0.0
    """A trial leaves what it can go on from after its first epoch, then no more often than this; 0: after each."""


class SmokeConfig(Section):
    """Retrieval while training: at which epochs, on how many validation queries."""

    epochs: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 8)
    queries: Annotated[int, Field(ge=1)] = 1000
    latency_queries: Annotated[int, Field(ge=200)] = 200


class GateConfig(Section):
    """The rules of one smoke epoch; see orchestrator/gates.py."""

    epoch: Annotated[int, Field(ge=1)]
    continue_if: tuple[RuleText, ...] = ()
    prune_unless: tuple[RuleText, ...] = ()

    def gate(self) -> Gate:
        """Return the gate with its rules parsed."""
        return Gate(
            epoch=self.epoch,
            continue_if=tuple(map(parse_rule, self.continue_if)),
            prune_unless=tuple(map(parse_rule, self.prune_unless)),
        )


class GatesConfig(Section):
    """Gates while training and at the end.

    At the end every rule of `success_if` must pass, else the verdict is REJECT. Then novel R@5 is held against
    `reference`: the best baseline of the run, a row by its name, or a published share. `ready_if` are further
    conditions of PRODUCTION READY.
    """

    mode: Literal["enforce", "shadow"] = "enforce"
    on_marginal: Literal["continue", "prune"] = "continue"
    smoke: tuple[GateConfig, ...] = ()
    success_if: tuple[RuleText, ...] = ()
    ready_if: tuple[RuleText, ...] = ()
    survive: Annotated[float, Field(gt=0, le=1)] = 0.5
    """With several `seeds`: the least share of a variant's trials that must survive for it to survive."""
    reference: str | Annotated[float, Field(gt=0, lt=1)] | None = BEST_BASELINE


class BudgetConfig(Section):
    """What the training steps of all trials of a variant's search may cost: operations, or seconds of this machine."""

    flops: Annotated[float, Field(gt=0)] | None = None
    """The backward pass counted as two forward passes."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """At the pace that a launch measures before its first trial; the epochs that follow from it stay with the run."""

    @model_validator(mode="after")
    def _one_of_them(self) -> BudgetConfig:
        given = sum(value is not None for value in (self.flops, self.seconds))
        if given != 1:
            raise ValueError(f"expected flops or seconds, got {'both' if given else 'neither'}; give one of them")
        return self

    @property
    def unit(self) -> Literal["flops", "seconds"]:
        """Return what is counted."""
        return "flops" if self.flops is not None else "seconds"

    @property
    def amount(self) -> float:
        """Return how much of it there is."""
        found = self.flops if self.flops is not None else self.seconds
        assert found is not None
        return found


class SearchConfig(Section):
    """Several settings of each variant, of which the best on validation goes into the table.

    At each of the epochs `halving` the settings of a variant that are still running are compared, and the worse half
    ends. With `seeds` each setting is trained under all of them and judged by its mean. Test articles choose nothing.
    """

    samples: Annotated[int, Field(ge=2, le=1000)] = 4
    space: dict[str, Any] = {}
    """By dotted key of a variant's entry, see orchestrator/config/search.py; `variants.<name>.search` replaces it."""
    sampler: Literal["spread", "optuna"] = "spread"
    """spread: all settings are drawn at once. optuna: in generations, each from the scores of those before it."""
    generation: Annotated[int, Field(ge=2)] | None = None
    """How many settings of a variant Optuna draws at a time, 4 where it is left out; halving compares these."""
    metric: EpochMetric = "val_soft_r@5"
    halving: tuple[Annotated[int, Field(ge=1)], ...] = ()
    budget: BudgetConfig | None = None
    """The same for every variant; its epochs follow from it, in place of `training.epochs`."""


class EvaluationConfig(Section):
    """How queries are told apart, in smoke and final evaluations alike."""

    novel_below: Annotated[float, Field(gt=0, le=1)] = NOVEL_BELOW
    """A query is novel when no chunk of a training window has this cosine with its target."""


class FinalConfig(Section):
    """The final evaluation on held-out test articles; `queries: null` takes every test window."""

    queries: Annotated[int, Field(ge=1)] | None = None
    latency_queries: Annotated[int, Field(ge=1000)] = 1000


class ExpectConfig(Section):
    """What a joined cluster that grows on demand will have at its largest, the nodes of today among it.

    A missing total: each node that is still to come is like the largest of today.
    """

    nodes: Annotated[int, Field(ge=1)]
    cpus: Annotated[float, Field(gt=0)] | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None


class ResourcesConfig(Section):
    """What one trial holds; `auto` is resolved from what the cluster has, see orchestrator/cluster/admission.py."""

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0, le=8)] = 1.0
    max_concurrent: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    placement: Literal["pack", "spread"] = "pack"
    """spread: trials that share GPUs take free ones first, and a trial's workers go to different nodes."""
    expect: ExpectConfig | None = None
    silence_warning_s: Annotated[float, Field(gt=0)] = 600.0


class TrackingConfig(Section):
    """Other places that get each epoch's numbers, see orchestrator/tracking/; mlflow: the server's address."""

    tensorboard: bool = False
    mlflow: str | None = None
    wandb: Literal["offline", "online"] | None = None


class PreflightConfig(Section):
    """Checks that may fail without stopping the launch, by name; the waiver is stamped into the table."""

    waive: tuple[str, ...] = ()
