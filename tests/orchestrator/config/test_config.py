"""What an experiment file may say: each wrong input is one line with its dotted path, nothing else is read from it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.experiment import ExperimentConfig
from orchestrator.config.load import load_config
from orchestrator.gates import EarlyStopping

SHIPPED = Path(__file__).parents[3] / "experiments"
EXPERIMENTS = sorted(SHIPPED.glob("*.yaml"))
BASE = """
name: example
variants:
  mamba_s: {d_model: 64, d_state: 16}
  amn: {d_model: 64}
"""


def load(folder: Path, extra: str = "", *overrides: str, only: tuple[str, ...] = (), base: str = BASE) -> Any:
    path = folder / "x.yaml"
    path.write_text(base + extra, encoding="utf-8")
    return load_config(path, overrides, only)


def refusal(folder: Path, extra: str = "", *overrides: str, only: tuple[str, ...] = (), base: str = BASE) -> str:
    """Return the one line that refuses the experiment, less the file's name."""
    with pytest.raises(ValueError) as refused:
        load(folder, extra, *overrides, only=only, base=base)
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(f"{folder / 'x.yaml'}: ")
    return line.removeprefix(f"{folder / 'x.yaml'}: ")


# ---- refused


def cases(table: str) -> list[tuple[str, str]]:
    """Return what is written and how the line that refuses it begins, from a table: a row is `written => begins`."""
    whole = table.strip().replace("\n    => ", " => ")
    rows = [line.split(" => ") for line in whole.splitlines() if not line.startswith("#")]
    return [(written.replace(r"\n", "\n"), begins) for written, begins in rows]


def test_a_misspelt_key_is_named_with_file_path_and_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nvariants:\n  mamba_s: {d_modle: 64}\n")
    with pytest.raises(ValueError) as refused:
        load_config(path)
    assert str(refused.value) == f"{path}: variants.mamba_s.d_modle: unknown key; did you mean d_model?"


WRONG_SECTIONS = r"""
# unknown keys
trainig: {epochs: 3} => trainig: unknown key; did you mean training?
training: {epoch: 3} => training.epoch: unknown key; did you mean epochs?
training: {batch size: 3} => training.batch size: unknown key; did you mean batch_size?
batch.size: 3 => batch.size: unknown key; legal: baselines,
training: {optimizer: {lrr: 1}} => training.optimizer.lrr: unknown key; did you mean lr?
training: {loss: {tau: 1}} => training.loss.tau: unknown key; legal: article_negatives,
training: {early_stopping: {patients: 3}} => training.early_stopping.patients: unknown key; did you mean pat
data: {contextlength: 5} => data.contextlength: unknown key; did you mean context_length?
index: {nprobes: 3} => index.nprobes: unknown key; did you mean nprobe?
gates: {smoke: [{epoch: 2, prune_if: []}]} => gates.smoke[0].prune_if: unknown key; did you mean prune_unless?
# duplicate keys
name: again => name: expected once, got it on lines 2 and 6; delete one of them
  amn: {} => variants.amn: expected once, got it on lines 5 and 6; delete one of them
training: {epochs: 1, epochs: 2} => training.epochs: expected once, got it on lines 6 and 6
# types
training: {epochs: many} => training.epochs: expected an integer, got 'many'; fix the value
training: {epochs: 2.5} => training.epochs: expected an integer, got 2.5; fix the value
training: {epochs: true} => training.epochs: expected a number, got true; write the number
smoke: {epochs: [2, true]} => smoke.epochs[1]: expected a number, got true; write the number
training: {optimizer: {lr: fast}} => training.optimizer.lr: expected a number, got 'fast'; fix the value
training: {optimizer: {lr: true}} => training.optimizer.lr: expected a number, got true; write the number
training: {loss: {dense: 5}} => training.loss.dense: expected true or false, got 5; fix the value
training: 3 => training: expected a mapping of keys, got 3; write {key: value}
gates: => gates: expected a mapping of keys, got null; write {key: value}
smoke: {epochs: 2} => smoke.epochs: expected a list, got 2; put it in [brackets]
baselines: last_vector => baselines: expected a list, got 'last_vector'; put it in [brackets]
resources: {max_concurrent: all} => resources.max_concurrent: expected an integer or 'auto', got 'all'; fix
training: {compile: fast} => training.compile: expected true or false or 'auto', got 'fast'; fix
run_dir: 7 => run_dir: expected text, got 7; put it in quotes
# ranges
training: {epochs: 0} => training.epochs: expected at least 1, got 0; fix the value
training: {batch_size: 1} => training.batch_size: expected at least 2, got 1; fix the value
training: {optimizer: {lr: -1}} => training.optimizer.lr: expected a number in [0, 10], got -1.0; choose
training: {optimizer: {lr: .nan}} => training.optimizer.lr: expected a number in [0, 10], got nan; choose
training: {precision: float16} => training.precision: expected 'auto', 'float32' or 'bfloat16', got 'float16'; fix
data: {val_share: 1.5} => data.val_share: expected a share between 0 and 1, got 1.5
data: {source: payload} => data.payload: expected a folder with source: payload, got none
smoke: {latency_queries: 10} => smoke.latency_queries: expected at least 200, got 10
final: {latency_queries: 999} => final.latency_queries: expected at least 1000, got 999
final: {queries: 0} => final.queries: expected at least 1, got 0
resources: {max_concurrent: 0} => resources.max_concurrent: expected at least 1 or 'auto', got 0
index: {kind: hsnw} => index.kind: expected 'auto', 'flat',
gates: {mode: strict} => gates.mode: expected 'enforce' or 'shadow', got 'strict'
gates: {reference: 1.5} => gates.reference: expected text or less than 1, got 1.5; fix the value
seed: -1 => seed: expected at least 0, got -1
# metrics, baselines and rules
baselines: [last_vektor] => baselines: unknown baseline 'last_vektor'; did you mean last_vector?
gates: {success_if: ['rr@5 >= 0.2']} => gates.success_if[0]: unknown metric 'rr@5'; did you mean r@5?
gates: {success_if: ['r@7 >= 0.2']} => gates.success_if[0]: unknown metric 'r@7'; did you mean r@5?
gates: {ready_if: ['exclude_context.p95_ms <= 1']} => gates.ready_if[0]: unknown metric 'exclude_context.p95
gates: {success_if: ['r@5 >= 35']} => gates.success_if[0]: expected a share from 0 to 1, got 35; 0.35 is 35 %
gates: {success_if: ['r@5 > 0.2']} => gates.success_if[0]: 'r@5 > 0.2': expected 'metric >= number' or 'met
gates: {success_if: 'r@5 >= 0.2'} => gates.success_if: expected a list, got 'r@5 >= 0.2'; put it in [brackets]
gates: {success_if: ['p95_ms <= 2', 'r@5 >= baseline.lastvector']}
    => gates.success_if[1]: unknown baseline 'lastvector'; did you mean last_vector?
gates: {smoke: [{epoch: 2, prune_unless: ['r@5 >= baseline.amn']}]}
    => gates.smoke[0].prune_unless[0]: unknown baseline 'amn' (a trained baseline is known only at the end)
gates: {smoke: [{epoch: 2, continue_if: ['predict_p95_ms <= 5']}]}
    => gates.smoke[0].continue_if[0]: unknown metric 'predict_p95_ms';
gates: {reference: ann} => gates.reference: unknown baseline 'ann'; did you mean amn?
# epochs that never come
training: {epochs: 4}\nsmoke: {epochs: [2, 8]}
    => smoke.epochs[1]: expected at most 4 (training.epochs), got 8; that epoch never comes: drop it or
gates: {smoke: [{epoch: 3, prune_unless: ['r@5 >= 0.1']}]}
    => gates.smoke[0].epoch: expected one of smoke.epochs [2, 4, 8], got 3; add it to smoke.epochs or
  mamba_h: {training: {epochs: 2}}\ngates: {smoke: [{epoch: 4, prune_unless: ['r@5 >= 0.1']}]}
    => gates.smoke[0].epoch: expected at most 2 (the epochs of variants.mamba_h), got 4; that epoch never comes
gates: {smoke: [{epoch: 2, prune_unless: ['r@5 >= 0.1']}, {epoch: 2, prune_unless: ['r@1 >= 0.1']}]}
    => gates.smoke[1].epoch: expected one gate an epoch, got a second one at 2; put its rules into the first one
gates: {smoke: [{epoch: 2}]} => gates.smoke[0]: expected rules, got none; add continue_if or prune_unless
gates: {smoke: [{prune_unless: ['r@5 >= 0.1']}]} => gates.smoke[0].epoch: expected a value, got none; add the
# what sections say about each other
training: {batch_size: 25, workers: 2}
    => variants.mamba_s.training.batch_size: expected a multiple of workers 2, got 25; choose another size
stages: [[mamba_s]] => stages: expected each of ['mamba_s', 'amn'] in exactly one stage, got ['mamba_s']; fix
stages: [[mamba_s], [amn]]\ngates: {success_if: ['p95_ms <= 2', 'r@5 >= 1.1 * baseline.amn']}
    => stages: expected amn in the first stage, since gates.success_if has 'r@5 >= 1.1 * baseline.amn', got it
stages: [[mamba_s, amn], [amn]] => stages: expected each of ['mamba_s', 'amn'] in exactly one stage, got
"""


@pytest.mark.parametrize(("extra", "line"), cases(WRONG_SECTIONS))
def test_a_wrong_section_is_refused_in_one_line(tmp_path: Path, extra: str, line: str) -> None:
    assert refusal(tmp_path, extra + "\n").startswith(line)


WRONG_VARIANTS = r"""
{mamba_z: {}} => variants.mamba_z: unknown variant 'mamba_z'; did you mean mamba_
{mine: {model: mamba_z}} => variants.mine.model: unknown variant 'mamba_z'; did you mean mamba_
{transformer: {}} => variants.transformer: unknown variant 'transformer'; legal: amn, linear,
{mamba_s: {d_model: 65}} => variants.mamba_s.d_model: expected expand * d_model (2 * 65) divisible by 64, got 130
{mamba_s: {d_model: 64, head_dim: 48}} => variants.mamba_s.d_model: expected expand * d_model (2 * 64) divisibl
{mamba_h: {d_model: 96, num_heads: 5}} => variants.mamba_h.
{mamba_s: {d_model: -64}} => variants.mamba_s.d_model: expected an integer >= 1, got -64
{mamba_s: {d_model: big}} => variants.mamba_s.d_model: expected an integer, got 'big'; fix the value
{mamba_s: {d_model: true}} => variants.mamba_s.d_model: expected
{mamba_s: {dropout: 1.0}} => variants.mamba_s.dropout: expected a number in [0, 1), got 1.0
{mamba_s: {residual: mean_last}} => variants.mamba_s.residual: expected 'fitted', 'learned',
{mamba_s: 3} => variants.mamba_s: expected a mapping of keys, got 3; write {key: value}
{mamba_s: null} => variants.mamba_s: expected a mapping of keys, got null; write {key: value}
{mamba_s: {enabled: 3}} => variants.mamba_s.enabled: expected true or false, got 3
{mamba_s: {training: 3}} => variants.mamba_s.training: expected a mapping, got 3; e.g. training:
{mamba_s: {training: {epoch: 3}}} => variants.mamba_s.training.epoch: unknown key; did you mean epochs?
{mamba_s: {training: {epochs: 0}}} => variants.mamba_s.training.epochs: expected at least 1, got 0
{mamba_s: {training: {optimizer: {lrr: 1}}}} => variants.mamba_s.training.optimizer.lrr: unknown key; did you m
{a/b: {model: mamba_s}} => variants.a/b: expected letters, digits, '_' and '-', got another sign; rename it
{last_vector: {model: mamba_s}} => variants.last_vector: expected another name than a baseline's, got 'last_vect
{5: {model: mamba_s}} => variants.5: expected text, got 5; put it in quotes
{mamba_s: {enabled: false}} => variants: expected at least one enabled variant, got none; enable one
{} => variants: expected at least 1, got {}
[mamba_s] => variants: expected a mapping of keys, got ['mamba_s']
"""


@pytest.mark.parametrize(("variants", "line"), cases(WRONG_VARIANTS))
def test_a_wrong_variant_is_refused_in_one_line(tmp_path: Path, variants: str, line: str) -> None:
    assert refusal(tmp_path, base=f"name: x\nvariants: {variants}\n").startswith(line)


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("variants: {amn: {}}\n", "name: expected a value, got none; add the key"),
        ("name: x\n", "variants: expected a value, got none; add the key"),
        ("name: a/b\nvariants: {amn: {}}\n", "name: expected text that matches ^[A-Za-z0-9]"),
        ("name: 5\nvariants: {amn: {}}\n", "name: expected text, got 5; put it in quotes"),
    ],
)
def test_an_experiment_needs_a_name_and_variants(tmp_path: Path, base: str, line: str) -> None:
    assert refusal(tmp_path, base=base).startswith(line)


def test_an_override_is_checked_like_the_file(tmp_path: Path) -> None:
    assert refusal(tmp_path, "", "training.epoch=3") == "training.epoch: unknown key; did you mean epochs?"
    assert refusal(tmp_path, "", "name=null") == "name: expected text, got null; put it in quotes"


# ---- read


def test_only_keeps_the_named_variants_in_the_files_order(tmp_path: Path) -> None:
    extra = "  mamba_h: {d_model: 64}\nstages: [[mamba_h], [mamba_s, amn]]\n"
    config = load(tmp_path, extra, only=("mamba_h", "mamba_s"))
    assert list(config.resolved_variants) == ["mamba_s", "mamba_h"]
    assert config.stages is None


def test_only_refuses_a_variant_that_is_unknown_or_disabled(tmp_path: Path) -> None:
    assert refusal(tmp_path, only=("mamba_x",)) == "--only mamba_x: unknown variant; did you mean mamba_s?"
    disabled = "  mamba_gr: {enabled: false}\n"
    assert refusal(tmp_path, disabled, only=("mamba_gr",)).startswith("--only mamba_gr: unknown variant")


def test_without_its_learned_baseline_an_experiment_still_loads(tmp_path: Path) -> None:
    assert load(tmp_path, "gates: {reference: amn}\n", only=("mamba_s",)).gates.reference == "amn"
    assert load(tmp_path, only=("mamba_s",)).gates.reference == "best_baseline"


def test_a_baseline_of_the_first_stage_or_of_a_rule_that_no_stage_needs_may_be_asked_for(tmp_path: Path) -> None:
    rule = "gates: {{success_if: ['{} >= baseline.amn']}}\n"
    assert load(tmp_path, "stages: [[amn], [mamba_s]]\n" + rule.format("r@5")).stage_rules == ("r@5 >= baseline.amn",)
    assert load(tmp_path, "stages: [[mamba_s], [amn]]\n" + rule.format("p95_ms")).stage_rules == ()


def test_a_variant_may_have_another_name_than_its_model(tmp_path: Path) -> None:
    amn, line = "mine: {model: amn}", "line: {model: linear}"
    config = load(tmp_path, base=f"name: x\nvariants:\n  wide: {{model: mamba_s, d_model: 128}}\n  {amn}\n  {line}\n")
    wide, mine, linear = config.resolved_variants.values()
    assert (wide.model, wide.spec.d_model, wide.kind) == ("mamba_s", 128, "variant")
    assert (mine.model, mine.kind) == ("amn", "baseline")
    assert (linear.model, linear.kind) == ("linear", "baseline")


def test_a_variants_training_overrides_single_keys_and_inherits_the_others(tmp_path: Path) -> None:
    extra = (
        "  slow: {model: mamba_s, d_model: 64, training: {optimizer: {lr: 1e-4}, batch_size: 64, loss: {mse: 0.5}}}\n"
        "training: {epochs: 9, optimizer: {weight_decay: 0.5}, early_stopping: {patience: 7}}\n"
    )
    config = load(tmp_path, extra)
    slow, other = config.resolved_variants["slow"].training, config.resolved_variants["mamba_s"].training
    assert (slow.optimizer.lr, slow.optimizer.weight_decay) == (1e-4, 0.5)
    assert (slow.batch_size, slow.epochs, slow.early_stopping.patience) == (64, 9, 7)
    assert (slow.loss.mse, slow.loss.infonce) == (0.5, 0.7)
    assert (other.optimizer.lr, other.batch_size, other.loss.mse) == (1e-3, 256, 0.0)


def test_a_disabled_variant_is_checked_but_not_trained(tmp_path: Path) -> None:
    config = load(tmp_path, "  mamba_gr: {enabled: false}\n")
    assert list(config.resolved_variants) == ["mamba_s", "amn"]
    assert refusal(tmp_path, "  mamba_gr: {enabled: false, d_modle: 3}\n").startswith("variants.mamba_gr.d_modle: unkn")


def test_early_stopping_can_be_switched_off_from_the_command_line(tmp_path: Path) -> None:
    extra = "training: {early_stopping: {metric: val_loss, patience: 5}}\n"
    config = load(tmp_path, extra, "training.early_stopping=null")
    assert config.training.early_stopping is None
    rules = config.stop_rules(config.resolved_variants["mamba_s"], {})
    assert rules.early_stopping is None


def test_best_weights_are_chosen_by_the_early_stopping_metric_or_its_default(tmp_path: Path) -> None:
    extra = "training: {early_stopping: {metric: val_loss, patience: 5, min_delta: 0.1}}\n"
    config = load(tmp_path, extra)
    variant = config.resolved_variants["mamba_s"]
    assert config.selection(variant) == EarlyStopping(metric="val_loss", mode="min", patience=5, min_delta=0.1)
    config = load(tmp_path, extra, "training.early_stopping=null")
    selection = config.selection(config.resolved_variants["mamba_s"])
    assert (selection.metric, selection.mode) == ("val_soft_r@5", "max")


def test_stop_rules_carry_the_experiments_gates(tmp_path: Path) -> None:
    extra = (
        "training: {epochs: 12}\n"
        "gates: {mode: shadow, on_marginal: prune,\n"
        "        smoke: [{epoch: 4, prune_unless: ['r@5 >= 2 * baseline.last_vector']}]}\n"
    )
    config = load(tmp_path, extra)
    baselines = {"last_vector": {"r@5": 0.1}}
    rules = config.stop_rules(config.resolved_variants["mamba_s"], baselines)
    assert (rules.epochs, rules.mode, rules.on_marginal, rules.gated) == (12, "shadow", "prune", True)
    (gate,) = rules.gates
    assert gate.epoch == 4
    assert gate.prune_unless[0].limit(rules.baselines) == 0.2
    assert not config.stop_rules(config.resolved_variants["amn"], baselines).gated


# ---- the fingerprint


@pytest.mark.parametrize(
    "override",
    [
        "run_dir=elsewhere",
        "name=renamed",
        "resources.max_concurrent=3",
        "resources.cpus_per_worker=2",
        "data.cache_dir=elsewhere",
        "mirror=gs://anonymous@bucket/runs",
        "training.epochs=20",
    ],
)
def test_the_fingerprint_does_not_depend_on_where_or_how_wide_a_run_is(tmp_path: Path, override: str) -> None:
    assert load(tmp_path, "", override).fingerprint() == load(tmp_path).fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "training.optimizer.lr=2e-3",
        "variants.mamba_s.d_model=128",
        "variants.mamba_s.training.batch_size=128",
        "variants.amn=null",
        "data.context_length=4",
        "smoke.queries=999",
        "gates.mode=shadow",
        "final.queries=10",
        "index.nprobe=8",
        "resources.device=cpu",
        "baselines=[last_vector]",
    ],
)
def test_the_fingerprint_depends_on_what_may_change_a_figure(tmp_path: Path, override: str) -> None:
    assert load(tmp_path, "", override).fingerprint() != load(tmp_path).fingerprint()


def test_the_fingerprint_does_not_depend_on_how_defaults_are_written(tmp_path: Path) -> None:
    written = (
        "  mamba_s: {d_state: 16, d_model: 64, model: mamba_s, enabled: true}\n  amn: {d_model: 64, training: {}}\n"
    )
    assert load(tmp_path, base=f"name: x\nvariants:\n{written}").fingerprint() == load(tmp_path).fingerprint()


# ---- the resolved configuration


def test_the_resolved_configuration_is_plain_and_loads_as_the_same_experiment(tmp_path: Path) -> None:
    import json

    import yaml

    config: ExperimentConfig = load(tmp_path, "training: {early_stopping: null}\n", "seed=4")
    resolved = config.resolved()
    assert json.loads(json.dumps(resolved)) == resolved
    assert resolved["variants"]["mamba_s"]["training"]["optimizer"]["lr"] == 1e-3
    again = load(tmp_path, base=yaml.safe_dump(resolved))
    assert again.fingerprint() == config.fingerprint()


def test_nothing_changes_a_configuration_after_loading(tmp_path: Path) -> None:
    config = load(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.training.optimizer.lr = 3.0


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_a_shipped_experiment_loads(path: Path) -> None:
    config = load_config(path)
    assert any(variant.kind == "variant" for variant in config.resolved_variants.values())


@pytest.mark.parametrize("name", ["debug", "phase5", "phase5_wikipedia"])
def test_the_shipped_experiments_that_select_have_gates(name: str) -> None:
    assert load_config(SHIPPED / f"{name}.yaml").gates.smoke


def changed(a: Any, b: Any) -> set[str]:
    """The keys at which two dataclasses differ."""
    first, second = dataclasses.asdict(a), dataclasses.asdict(b)
    return {key for key in first if first[key] != second[key]}


@pytest.mark.parametrize("name", ["ablation", "ablation_articles"])
def test_the_ablation_starts_from_phase5s_defaults_and_changes_one_option_a_row(name: str) -> None:
    phase5 = load_config(SHIPPED / "phase5.yaml").resolved_variants["mamba_s"]
    base, *rows = load_config(SHIPPED / f"{name}.yaml").resolved_variants.values()
    assert (base.spec, base.training.loss) == (phase5.spec, phase5.training.loss)
    assert base.training == phase5.training.model_copy(update={"early_stopping": None, "epochs": 2})
    assert len(rows) >= 13
    for row in rows:
        options = changed(base.spec, row.spec) | changed(base.training.loss, row.training.loss)
        options |= changed(base.training.optimizer, row.training.optimizer)
        one_loss_alone = options <= {"infonce", "cosine", "mse", "recall"}
        assert options
        assert len(options) == 1 or one_loss_alone
        same = {"loss": base.training.loss, "optimizer": base.training.optimizer}
        assert row.training.model_copy(update=same) == base.training


def test_the_shipped_experiments_are_found() -> None:
    assert {"debug.yaml", "phase5.yaml", "phase5_wikipedia.yaml"} <= {path.name for path in EXPERIMENTS}
