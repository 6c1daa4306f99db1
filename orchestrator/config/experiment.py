"""The experiment's configuration: typed, frozen, every key checked, every error with its dotted path.

Packages own their settings: `DataConfig`, `IndexConfig`, `LossConfig`, `OptimConfig` and the variants' sizes are plain
dataclasses there. This file nests them and adds what belongs to the run as a whole. What one section says about another
is checked in `orchestrator.config.references`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from data.config import DataConfig
from data.errors import UserError
from data.windows.novelty import NOVEL_BELOW
from evaluation.config import IndexConfig, RerankConfig
from evaluation.measures.rules import Metrics, parse_rule
from evaluation.retrieval.baselines import ALL_BASELINES
from models.spec.imported import ImportedSpec, is_import_path, name_of
from models.spec.loss import LossConfig
from models.spec.optim import OptimConfig, Precision
from models.spec.registry import VARIANTS
from models.spec.specs import VariantSpec
from orchestrator.config.search import draw_samples, with_settings
from orchestrator.config.validation import suggest, validate
from orchestrator.gates import EarlyStopping, Gate, StopRules

LEARNED_BASELINE = "amn"
BEST_BASELINE = "best_baseline"
"""Value of `gates.reference`: the baseline of the run that is best at the end."""

STAGE_METRICS = ("r@5", "contain@50")
"""Final gates on these decide whether the next stage starts: latency is for the end."""

EpochMetric = Literal["val_soft_r@5", "val_soft_r@50", "val_mrr", "val_cosine", "val_loss"]

RuleText = Annotated[str, BeforeValidator(lambda text: parse_rule(str(text)).text)]


class _Section(BaseModel):
    """A mapping of the YAML: no unknown keys, no changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EarlyStoppingConfig(_Section):
    """When a trial that no longer improves ends, and which epoch's weights `best.pt` holds."""

    metric: EpochMetric = "val_soft_r@5"
    patience: Annotated[int, Field(ge=1)] = 3
    min_delta: Annotated[float, Field(ge=0)] = 0.0

    def rule(self) -> EarlyStopping:
        """Return the pure rule."""
        mode: Literal["max", "min"] = "min" if self.metric == "val_loss" else "max"
        return EarlyStopping(metric=self.metric, mode=mode, patience=self.patience, min_delta=self.min_delta)


class TrainingConfig(_Section):
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


class SmokeConfig(_Section):
    """Retrieval while training: at which epochs, on how many validation queries."""

    epochs: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 8)
    queries: Annotated[int, Field(ge=1)] = 1000
    latency_queries: Annotated[int, Field(ge=200)] = 200


class GateConfig(_Section):
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


class GatesConfig(_Section):
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


class BudgetConfig(_Section):
    """What the search of each variant may cost."""

    flops: Annotated[float, Field(gt=0)]
    """Operations of all training steps of all its trials, the backward pass counted as two forward passes."""


class SearchConfig(_Section):
    """Several settings of each variant, of which the best on validation goes into the table.

    At each of the epochs `halving` the settings of a variant that are still running are compared, and the worse half
    ends. With `seeds` each setting is trained under all of them and judged by its mean. Test articles choose nothing.
    """

    samples: Annotated[int, Field(ge=2, le=1000)] = 4
    space: dict[str, Any] = {}
    """By dotted key of a variant's entry, see orchestrator/config/search.py; `variants.<name>.search` replaces it."""
    metric: EpochMetric = "val_soft_r@5"
    halving: tuple[Annotated[int, Field(ge=1)], ...] = ()
    budget: BudgetConfig | None = None
    """The same for every variant; its epochs follow from it, in place of `training.epochs`."""


class EvaluationConfig(_Section):
    """How queries are told apart, in smoke and final evaluations alike."""

    novel_below: Annotated[float, Field(gt=0, le=1)] = NOVEL_BELOW
    """A query is novel when no chunk of a training window has this cosine with its target."""


class FinalConfig(_Section):
    """The final evaluation on held-out test articles; `queries: null` takes every test window."""

    queries: Annotated[int, Field(ge=1)] | None = None
    latency_queries: Annotated[int, Field(ge=1000)] = 1000


class ExpectConfig(_Section):
    """What a joined cluster that grows on demand will have at its largest, the nodes of today among it.

    A missing total: each node that is still to come is like the largest of today.
    """

    nodes: Annotated[int, Field(ge=1)]
    cpus: Annotated[float, Field(gt=0)] | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None


class ResourcesConfig(_Section):
    """What one trial holds; `auto` is resolved from what the cluster has, see orchestrator/cluster/admission.py."""

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0, le=8)] = 1.0
    max_concurrent: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    placement: Literal["pack", "spread"] = "pack"
    """spread: trials that share GPUs take free ones first, and a trial's workers go to different nodes."""
    expect: ExpectConfig | None = None
    silence_warning_s: Annotated[float, Field(gt=0)] = 600.0


class TrackingConfig(_Section):
    """Other places that get each epoch's numbers, see orchestrator/tracking/; mlflow: the server's address."""

    tensorboard: bool = False
    mlflow: str | None = None
    wandb: Literal["offline", "online"] | None = None


class PreflightConfig(_Section):
    """Checks that may fail without stopping the launch, by name; the waiver is stamped into the table."""

    waive: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One entry of `variants`, resolved: which model at which size, trained how."""

    name: str
    model: str
    spec: VariantSpec | ImportedSpec
    training: TrainingConfig

    @property
    def kind(self) -> Literal["variant", "baseline"]:
        """Return `baseline` for AMN, the learned baseline; it is trained, never pruned by gates, never `best`."""
        return "baseline" if self.model == LEARNED_BASELINE else "variant"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """One training: a variant, or one sample of its search, under a seed.

    `name` is that of its folder: `<sample>` where there is one seed, else `<sample>@<seed>`. Trials of one `sample`
    have the same settings: it is the variant's name, or `<variant>.<number>` in a search.
    """

    name: str
    sample: str
    variant: Variant
    seed: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class ExperimentConfig(_Section):
    """A whole experiment. `variants` keeps the raw entries; `resolved_variants` holds what they mean.

    `seed` splits the articles and draws the queries. Every variant is trained once under each of `seeds`, on the same
    windows; null is `seed` alone.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    run_dir: str = "runs"
    mirror: str | None = None
    """Where a copy of the run folder is kept, see orchestrator/run/mirror.py."""
    data: DataConfig = DataConfig()
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    baselines: tuple[str, ...] = ALL_BASELINES
    """Names, or import paths of functions from contexts (Q, L, D) to unit predictions (Q, D)."""
    metrics: tuple[str, ...] = ()
    """Further metrics by import path: functions from ranks (Q,), 0 where the target is not found, to values (Q,)."""
    training: TrainingConfig = TrainingConfig()
    smoke: SmokeConfig = SmokeConfig()
    gates: GatesConfig = GatesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    final: FinalConfig = FinalConfig()
    index: IndexConfig = IndexConfig()
    rerank: RerankConfig | None = None
    preflight: PreflightConfig = PreflightConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    stages: tuple[tuple[str, ...], ...] | None = None
    search: SearchConfig | None = None

    @property
    def resolved_variants(self) -> dict[str, Variant]:
        """Return the enabled variants by name, in the file's order."""
        named = {name: resolve_variant(name, entry, self.training) for name, entry in self.variants.items()}
        return {name: variant for name, variant in named.items() if variant is not None}

    @property
    def baseline_names(self) -> tuple[str, ...]:
        """Return the names of the rows of the baselines that are not trained."""
        return tuple(map(name_of, self.baselines))

    @property
    def imported(self) -> tuple[str, ...]:
        """Return every import path that the experiment names."""
        models = [variant.model for variant in self.resolved_variants.values() if is_import_path(variant.model)]
        return tuple(dict.fromkeys([*models, *filter(is_import_path, self.baselines), *self.metrics]))

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Return the seeds that every variant is trained under."""
        return (self.seed,) if self.seeds is None else self.seeds

    @property
    def trials(self) -> dict[str, PlannedTrial]:
        """Return every training by its name, in the order of variants and seeds."""
        if self.search is not None:
            return {trial.name: trial for name in self.resolved_variants for trial in self._searched(name)}
        planned = [trial for name, one in self.resolved_variants.items() for trial in self._under_each_seed(name, one)]
        return {trial.name: trial for trial in planned}

    def space_of(self, variant: str) -> Mapping[str, Any]:
        """Return what a search draws the variant's settings from."""
        common = self.search.space if self.search is not None else {}
        found: Mapping[str, Any] = self.variants[variant].get("search", common)
        return found

    def _searched(self, name: str) -> list[PlannedTrial]:
        assert self.search is not None
        planned: list[PlannedTrial] = []
        drawn = draw_samples(self.space_of(name), self.search.samples, self.seed)
        for number, settings in enumerate(drawn, start=1):
            variant = resolve_variant(name, with_settings(self.variants[name], settings), self.training)
            assert variant is not None
            planned += self._under_each_seed(f"{name}.{number}", variant, settings)
        return planned

    def _under_each_seed(
        self, sample: str, variant: Variant, settings: Mapping[str, Any] | None = None
    ) -> list[PlannedTrial]:
        alone = len(self.training_seeds) == 1
        return [
            PlannedTrial(
                name=sample if alone else f"{sample}@{seed}",
                sample=sample,
                variant=variant,
                seed=seed,
                settings=settings or {},
            )
            for seed in self.training_seeds
        ]

    def trials_of(self, variant: str) -> list[PlannedTrial]:
        """Return the trainings of one variant, in the order of samples and seeds."""
        return [trial for trial in self.trials.values() if trial.variant.name == variant]

    @property
    def stage_rules(self) -> tuple[str, ...]:
        """Return the final gates that a survivor must pass before the next stage starts."""
        bare = {rule: parse_rule(rule).metric.split(".")[-1] for rule in self.gates.success_if}
        return tuple(rule for rule, metric in bare.items() if metric in STAGE_METRICS)

    def stop_rules(self, variant: Variant, baselines: Mapping[str, Metrics]) -> StopRules:
        """Return the rules that may end `variant`'s trial, with the baselines' smoke metrics filled in."""
        early = variant.training.early_stopping
        return StopRules(
            epochs=variant.training.epochs,
            gates=tuple(gate.gate() for gate in self.gates.smoke),
            early_stopping=early.rule() if early else None,
            baselines=baselines,
            on_marginal=self.gates.on_marginal,
            mode=self.gates.mode,
            gated=variant.kind == "variant",
        )

    def selection(self, variant: Variant) -> EarlyStopping:
        """Return the rule that says which epoch's weights `best.pt` holds, with or without early stopping."""
        if self.search is not None:
            return EarlyStoppingConfig(metric=self.search.metric).rule()
        return (variant.training.early_stopping or EarlyStoppingConfig()).rule()

    def resolved(self) -> dict[str, Any]:
        """Return the configuration with every default written out, as plain JSON values."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        plain["variants"] = {
            name: {
                "model": variant.model,
                **_plain(variant.spec),
                "training": variant.training.model_dump(mode="json"),
                **({"search": dict(self.space_of(name))} if self.search is not None else {}),
            }
            for name, variant in self.resolved_variants.items()
        }
        return plain

    def fingerprint(self) -> str:
        """Return a hash of everything that may change a figure: not where files lie or how much runs at once.

        What the files hold is compared by `orchestrator.run.manifest.input_hashes`.
        """
        plain = self.resolved()
        for key in ("name", "run_dir", "mirror", "tracking"):
            plain.pop(key)
        for key in ("cache_dir", "payload", "train", "val", "eval"):
            plain["data"].pop(key)
        plain["index"].pop("file")
        plain["resources"] = {"device": plain["resources"]["device"]}
        return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def resolve_variant(name: str, entry: dict[str, Any], defaults: TrainingConfig) -> Variant | None:
    """Return what one entry of `variants` means; None when it says `enabled: false`.

    An entry holds the model's own sizes, and may hold `model` (when the variant's name is not the model's; or an import
    path), `training` (overrides), `search` (see orchestrator/config/search.py) and `enabled`.
    """
    path = f"variants.{name}"
    entry = dict(entry)
    enabled = entry.pop("enabled", True)
    if not isinstance(enabled, bool):
        raise UserError(f"{path}.enabled: expected true or false, got {enabled!r}; fix the value")
    entry.pop("search", None)
    model = entry.pop("model", name)
    if model not in VARIANTS and not is_import_path(str(model)):
        where = f"{path}.model" if model != name else path
        raise UserError(f"{where}: unknown variant {model!r}; {suggest(str(model), VARIANTS)}")
    overrides = entry.pop("training", {})
    if not isinstance(overrides, dict):
        raise UserError(f"{path}.training: expected a mapping, got {overrides!r}; e.g. training: {{batch_size: 128}}")
    training = _merge_training(defaults, overrides, f"{path}.training")
    spec = validate(VARIANTS[model], entry, path) if model in VARIANTS else ImportedSpec(path=model, sizes=entry)
    return Variant(name=name, model=model, spec=spec, training=training) if enabled else None


def _merge_training(defaults: TrainingConfig, overrides: dict[str, Any], path: str) -> TrainingConfig:
    if not overrides:
        return defaults
    plain = defaults.model_dump()
    for key, value in overrides.items():
        nested = plain.get(key)
        plain[key] = {**nested, **value} if isinstance(nested, dict) and isinstance(value, dict) else value
    merged: TrainingConfig = validate(TrainingConfig, plain, path)
    return merged


def _plain(spec: VariantSpec | ImportedSpec) -> dict[str, Any]:
    """Return a variant's sizes as its entry would hold them."""
    sizes = spec.sizes if isinstance(spec, ImportedSpec) else dataclasses.asdict(spec)
    plain: dict[str, Any] = json.loads(json.dumps(sizes))
    return plain
