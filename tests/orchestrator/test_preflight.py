"""The launcher's own checks: enough novel queries, the index's fidelity, the baselines, and gates beyond reach."""

import io
import math
from typing import Any

import numpy as np
import pytest

from data.errors import UserError
from evaluation.measures.rules import parse_rule
from evaluation.queries import RunQueries
from orchestrator import preflight
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.pipeline import finish_preflight
from orchestrator.preflight import (
    PreflightError,
    absolute_rules,
    check_gates,
    check_inputs,
    check_questions,
    check_retrieval,
)
from orchestrator.questions import Questions
from orchestrator.state import Measured, Session

EXPERIMENT = """
name: checked
variants: {mamba_s: {}}
smoke: {epochs: [4]}
gates:
  smoke:
    - epoch: 4
      continue_if: ["contain@50 >= 0.55", "eff@5 >= 0.65", "r@5 >= 0.35", "p95_ms <= 2.0", "novel.r@5 >= 0.2"]
      prune_unless: ["contain@50 >= 0.40"]
  success_if: ["contain@50 >= 0.60", "r@5 >= 1.5 * baseline.last_vector"]
"""
INDEX = {"kind": "ivf_flat", "nprobe": 64, "fidelity": 0.96, "fidelity_disturbed": 0.93}
BASELINES = {"last_vector": {"novel.r@5": 0.1, "novel.contain@50": 0.2}}
ORACLE = {"novel.r@5": 0.4, "novel.contain@50": 0.6, "r@5": 0.5, "contain@50": 0.7}


@pytest.fixture
def config(prepared_from: Any) -> ExperimentConfig:
    return prepared_from(EXPERIMENT).config


def test_a_sampler_whose_package_is_missing_is_refused(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    search = "search: {sampler: optuna, space: {dropout: [0.0, 0.1]}}\n"
    with pytest.raises(
        UserError, match=r"search.sampler: expected the package optuna, .* pip install -e '.\[optuna\]'"
    ):
        check_inputs(prepared_from("name: x\nvariants: {mamba_s: {}}\nsmoke: {epochs: []}\n" + search).config)


def waiving(config: ExperimentConfig, name: str) -> ExperimentConfig:
    return config.model_copy(update={"preflight": config.preflight.model_copy(update={"waive": (name,)})})


def questions(novel: int, articles: int) -> Any:
    """400 final queries of these articles in turns, the first ones novel."""
    number = np.arange(400, dtype=np.int32)
    asked = RunQueries(np.zeros((400, 6), np.int32), number % articles, np.zeros(400, np.float32), number < novel)
    return Questions(val=asked, smoke=asked, final=asked)


@pytest.mark.parametrize(
    ("novel", "articles", "verdicts"),
    [
        (0, 400, ["FAIL", "warn", "warn"]),
        (1, 400, ["pass", "warn", "warn"]),
        (29, 400, ["pass", "warn", "warn"]),
        (30, 400, ["pass", "warn", "pass"]),
        (299, 400, ["pass", "warn", "pass"]),
        (300, 29, ["pass", "pass", "warn"]),
        (300, 30, ["pass", "pass", "pass"]),
    ],
)
def test_without_a_novel_query_nothing_starts_and_few_queries_or_articles_are_a_warning(
    config: ExperimentConfig, novel: int, articles: int, verdicts: list[str]
) -> None:
    checks = check_questions(config, questions(novel, articles))
    assert [check.verdict for check in checks] == verdicts
    assert [check.blocks for check in checks] == [novel == 0, False, False]
    assert [check.value for check in checks] == [novel, novel, min(novel, articles)]


def test_that_no_query_is_novel_can_be_waived_by_name(config: ExperimentConfig) -> None:
    assert check_questions(waiving(config, "novel_queries"), questions(0, 400))[0].verdict == "waived"


def test_fidelity_is_judged_and_baselines_are_reported(config: ExperimentConfig) -> None:
    checks = check_retrieval(config, INDEX, BASELINES, ORACLE)
    assert [(check.name, check.value, check.limit, check.verdict) for check in checks] == [
        ("index_fidelity", 0.96, 0.9, "pass"),
        ("index_fidelity_disturbed", 0.93, 0.8, "pass"),
        ("last_vector.novel.r@5", 0.1, None, "report"),
        ("last_vector.novel.contain@50", 0.2, None, "report"),
        ("oracle.novel.r@5", 0.4, None, "report"),
        ("oracle.novel.contain@50", 0.6, None, "report"),
        ("gate.contain@50", 0.6, 0.7, "pass"),
        ("gate.r@5", 0.35, 0.5, "pass"),
        ("gate.novel.r@5", 0.2, 0.4, "pass"),
    ]


def test_an_index_that_misses_neighbours_stops_the_launch(config: ExperimentConfig) -> None:
    (poor, _, *_) = check_retrieval(config, {**INDEX, "fidelity": 0.5}, BASELINES, ORACLE)
    assert poor.blocks
    assert poor.line() == (
        "preflight.index_fidelity: expected >= 0.9, got 0.5 (share of the exact top 50 that ivf_flat at nprobe 64 "
        "finds); raise index.nprobe, or choose another kind (index.kind: auto measures them)"
    )


def test_a_fidelity_that_was_not_measured_fails(config: ExperimentConfig) -> None:
    (first, second, *_) = check_retrieval(config, {"kind": "flat"}, BASELINES, ORACLE)
    assert first.blocks
    assert second.blocks


def test_a_poor_fidelity_can_be_waived_by_name(config: ExperimentConfig) -> None:
    (poor, *_) = check_retrieval(waiving(config, "index_fidelity"), {**INDEX, "fidelity": 0.5}, BASELINES, ORACLE)
    assert poor.verdict == "waived"


def test_a_gate_above_what_the_oracle_reaches_is_a_warning_that_stops_nothing(config: ExperimentConfig) -> None:
    checks = check_retrieval(config, INDEX, BASELINES, {**ORACLE, "r@5": 0.2})
    (warned,) = [check for check in checks if check.verdict == "warn"]
    assert not warned.blocks
    assert warned.line() == (
        "preflight.gate.r@5: expected <= 0.2, got 0.35 (r@5 >= 0.35; limit: what an oracle reaches that knows the "
        "chunks before and after); few models can pass; lower the gate, or make it relative to a baseline"
    )


@pytest.mark.parametrize("reached", [{}, {"r@5": math.nan}], ids=["missing", "NaN"])
def test_an_oracle_that_is_not_known_warns(reached: dict[str, float]) -> None:
    (check,) = check_gates([parse_rule("r@5 >= 0.1")], reached)
    assert check.verdict == "warn"


def test_only_absolute_rules_on_found_targets_are_held_against_the_oracle(config: ExperimentConfig) -> None:
    assert [rule.text for rule in absolute_rules(config)] == [
        "contain@50 >= 0.55",
        "r@5 >= 0.35",
        "novel.r@5 >= 0.2",
        "contain@50 >= 0.40",
        "contain@50 >= 0.60",
    ]


def measured_with(index: dict[str, Any], oracle: dict[str, float]) -> Measured:
    return Measured(index={"index": index}, baselines=BASELINES, oracle=oracle, checks=())


def test_a_warning_is_shown_and_handed_on_and_the_run_goes_on(prepared_from: Any) -> None:
    session = Session(stream=io.StringIO())
    measured = measured_with(INDEX, {**ORACLE, "r@5": 0.2})
    checked = finish_preflight(prepared_from(EXPERIMENT), measured, session)
    assert session.stream.getvalue().startswith("warn      preflight.gate.r@5: expected <= 0.2, got 0.35 (")
    kept = {check.name: check.verdict for check in checked.checks}
    assert (kept["gate.r@5"], kept["index_fidelity"], kept["last_vector.novel.r@5"]) == ("warn", "pass", "report")


def test_a_failed_check_of_the_index_ends_the_launch_with_all_checks(prepared_from: Any) -> None:
    measured = measured_with({**INDEX, "fidelity_disturbed": 0.5}, ORACLE)
    line = r"preflight.index_fidelity_disturbed: expected >= 0\.8, got 0\.5 "
    with pytest.raises(PreflightError, match=line) as raised:
        finish_preflight(prepared_from(EXPERIMENT), measured, Session(stream=io.StringIO()))
    assert "FAIL    index_fidelity_disturbed" in raised.value.table
