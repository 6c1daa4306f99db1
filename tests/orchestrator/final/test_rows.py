"""The rows of results.json: which figures a row shows, and the final rules held against it."""

import math
from typing import Any

import pytest

from evaluation.ending import Ending
from models.spec.registry import make_spec
from orchestrator.config.experiment import Variant
from orchestrator.config.sections import TrainingConfig
from orchestrator.final.result import FinalResult
from orchestrator.final.rows import baseline_row, check_final_rules, trained_row
from orchestrator.final.seeds import VariantEnd
from orchestrator.run.ledger import TrialEnd

VARIANT = Variant(name="wide", model="mamba_s", spec=make_spec("mamba_s"), training=TrainingConfig())
FINISHED = TrialEnd(ending=Ending.FINISHED, epoch=2, reason="ran all its epochs")


def records(*epochs: int, smoke: dict[int, dict[str, float]] | None = None) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "seconds": {"data": 1.0, "step": 10.0, "smoke": 5.0},
            "windows_seen": 100 * epoch,
            **({"smoke": smoke[epoch]} if smoke and epoch in smoke else {}),
        }
        for epoch in epochs
    ]


def result(**metrics: float) -> FinalResult:
    chosen = {"decay": 0.5}
    ci = {"r@5": (0.1, 0.3)}
    return FinalResult(
        metrics=metrics, ci=ci, outcomes=None, predict=None, chosen=chosen, checkpoint_sha256="abc", checkpoint_epoch=1
    )


def row_of(end: TrialEnd, lines: list[dict[str, Any]], found: FinalResult | None = None) -> dict[str, Any]:
    return trained_row(
        VARIANT, VariantEnd(end=end, trial="wide", trials={"wide": end}, chosen=("wide",)), {"wide": lines}, 7, found
    )


def test_a_baseline_that_is_not_trained_costs_nothing_and_says_what_it_chose() -> None:
    row = baseline_row("context_ewm", result(**{"r@5": 1.0}))
    told = (row["kind"], row["status"], row["reason"], row["evaluated_on"], row["chosen"])
    assert told == ("baseline", "FINISHED", "not trained", "final", {"decay": 0.5})
    assert (row["params"], row["epochs"], row["train_s"], row["windows_seen"], row["r@5"]) == (0, 0, 0.0, 0, 1.0)


def test_a_survivors_row_shows_its_final_figures_and_what_it_cost() -> None:
    row = row_of(FINISHED, records(1, 2, smoke={2: {"r@5": 0.9}}), result(**{"r@5": 0.2}))
    assert (row["variant"], row["kind"], row["model"], row["status"]) == ("wide", "variant", "mamba_s", "FINISHED")
    assert (row["r@5"], row["evaluated_on"], row["ci"]) == (0.2, "final", {"r@5": (0.1, 0.3)})
    # Two epochs of 1 s of data and 10 s of steps; smoke evaluations are not training.
    assert (row["train_s"], row["windows_seen"], row["epochs"], row["best_epoch"]) == (22.0, 200, 2, 1)
    assert (row["params"], row["checkpoint_sha256"]) == (7, "abc")


def test_a_row_says_how_much_of_the_layers_its_weights_predict_with() -> None:
    lines = [{**record, "val_share": share} for record, share in zip(records(1, 2), (0.5, 1.0), strict=True)]
    assert row_of(FINISHED, lines, result())["val_share"] == 0.5  # the best epoch is the first
    assert row_of(FINISHED, records(1, 2), result())["val_share"] is None


def test_a_pruned_trials_row_shows_its_last_smoke_evaluation_and_says_so() -> None:
    end = TrialEnd(ending=Ending.PRUNED, epoch=4, reason="r@5 0.1 (limit >= 0.3, failed)")
    smoke = {2: {"r@5": 0.05}, 4: {"r@5": 0.1, "n_queries": 20}}
    row = row_of(end, records(1, 2, 3, 4, smoke=smoke))
    assert (row["status"], row["reason"], row["epochs"]) == ("PRUNED", "r@5 0.1 (limit >= 0.3, failed)", 4)
    assert (row["r@5"], row["n_queries"], row["evaluated_on"]) == (0.1, 20, "smoke")
    assert (row["ci"], row["best_epoch"], row["checkpoint_sha256"]) == ({}, None, None)


def test_epochs_after_a_trials_end_do_not_count() -> None:
    end = TrialEnd(ending=Ending.PRUNED, epoch=2, reason="why")
    row = row_of(end, records(1, 2, 3, smoke={2: {"r@5": 0.1}, 3: {"r@5": 0.9}}))
    assert (row["r@5"], row["windows_seen"], row["train_s"]) == (0.1, 200, 22.0)


@pytest.mark.parametrize("before", [[], records(1)], ids=["no epoch", "no smoke evaluation"])
def test_a_trial_that_failed_early_has_a_row_without_figures(before: list[dict[str, Any]]) -> None:
    end = TrialEnd(ending=Ending.FAILED, epoch=len(before), reason="OutOfMemoryError: no")
    row = row_of(end, before)
    assert (row["status"], row["evaluated_on"], row["windows_seen"]) == ("FAILED", None, 100 * len(before))
    assert "r@5" not in row


def test_final_rules_are_held_against_the_rows_and_baselines_of_the_same_run() -> None:
    metrics = {"r@5": 0.3, "p95_ms": 2.0}
    baselines = {"last_vector": {"r@5": 0.1}, "amn": {"r@5": math.nan}}
    rules = ("r@5 >= 3 * baseline.last_vector", "p95_ms <= 1.45", "r@5 >= baseline.amn", "r@1 >= 0.0")
    checks = check_final_rules(rules, metrics, baselines)
    assert [check.rule for check in checks] == list(rules)
    assert [check.passed for check in checks] == [0.3 >= 3 * 0.1, False, False, False]
    assert checks[0].limit == pytest.approx(0.3)
