"""The experiment's configuration: typed, frozen, every key checked, every error with its dotted path.

`orchestrator.config.sections` has the sections. This file nests them, resolves variants and plans their trials. What
one section says about another is checked in `orchestrator.config.references`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from data.config import DataConfig
from data.errors import UserError
from evaluation.config import IndexConfig, RerankConfig
from evaluation.measures.rules import Metrics, parse_rule
from evaluation.retrieval.baselines import ALL_BASELINES
from models.spec.imported import ImportedSpec, is_import_path, name_of
from models.spec.registry import VARIANTS
from models.spec.specs import VariantSpec
from orchestrator.config.search import draw_samples, generation_sizes, with_settings
from orchestrator.config.sections import (
    LEARNED_BASELINES,
    OPTUNA_DRAWS,
    STAGE_METRICS,
    EarlyStoppingConfig,
    EvaluationConfig,
    FinalConfig,
    GatesConfig,
    PreflightConfig,
    ResourcesConfig,
    SearchConfig,
    Section,
    SmokeConfig,
    TrackingConfig,
    TrainingConfig,
)
from orchestrator.config.validation import suggest, validate
from orchestrator.gates import EarlyStopping, StopRules


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One entry of `variants`, resolved: which model at which size, trained how."""

    name: str
    model: str
    spec: VariantSpec | ImportedSpec
    training: TrainingConfig

    @property
    def kind(self) -> Literal["variant", "baseline"]:
        """Return `baseline` for the learned baselines, AMN and the linear map."""
        return "baseline" if self.model in LEARNED_BASELINES else "variant"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """One training: a variant, or one sample of its search, under a seed.

    `name` is that of its folder: `<sample>` where there is one seed, else `<sample>@<seed>`. Trials of one `sample`
    have the same settings: it is the variant's name, or `<variant>.<number>` in a search. Those of one `generation`
    were drawn together.
    """

    name: str
    sample: str
    variant: Variant
    seed: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    generation: int = 1


def by_sample(trials: Iterable[PlannedTrial]) -> dict[str, list[PlannedTrial]]:
    """Return trials by what they share: the settings, under one seed or several."""
    samples: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        samples.setdefault(trial.sample, []).append(trial)
    return samples


Drawn = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
"""The settings that a search has drawn, by variant and generation."""


class ExperimentConfig(Section):
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
    _drawn: Drawn = PrivateAttr(default_factory=dict)

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
    def title(self) -> str:
        """Return what Ray's dashboard calls the job and its slots: the name, the variants, their seeds."""
        variants, seeds = ", ".join(self.resolved_variants), ", ".join(map(str, self.training_seeds))
        return f"{self.name}: {variants}; seed {seeds}"

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

    @property
    def drawn(self) -> Drawn:
        """Return the settings of a search so far; the first generation follows from the experiment alone."""
        return {name: self._drawn_of(name) for name in self.resolved_variants}

    def _drawn_of(self, name: str) -> Sequence[Sequence[Mapping[str, Any]]]:
        if name in self._drawn:
            return self._drawn[name]
        return [draw_samples(self.space_of(name), self.generations_of(name)[0], self.seed)]

    def with_drawn(self, drawn: Drawn) -> ExperimentConfig:
        """Return the experiment with the settings that its search has drawn by now."""
        found = self.model_copy()
        found._drawn = drawn
        return found

    def generations_of(self, variant: str) -> list[int]:
        """Return how many settings each generation of a variant's search draws."""
        search = self.search
        assert search is not None
        size = (search.generation or OPTUNA_DRAWS) if search.sampler == "optuna" else search.samples
        return generation_sizes(self.space_of(variant), search.samples, size)

    def _searched(self, name: str) -> list[PlannedTrial]:
        planned: list[PlannedTrial] = []
        number = 0
        for generation, drawn in enumerate(self._drawn_of(name), start=1):
            for settings in drawn:
                number += 1
                variant = resolve_variant(name, with_settings(self.variants[name], settings), self.training)
                assert variant is not None
                planned += self._under_each_seed(f"{name}.{number}", variant, settings, generation)
        return planned

    def _under_each_seed(
        self, sample: str, variant: Variant, settings: Mapping[str, Any] | None = None, generation: int = 1
    ) -> list[PlannedTrial]:
        alone = len(self.training_seeds) == 1
        return [
            PlannedTrial(
                name=sample if alone else f"{sample}@{seed}",
                sample=sample,
                variant=variant,
                seed=seed,
                settings=settings or {},
                generation=generation,
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
