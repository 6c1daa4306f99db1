"""A variant under several seeds: when it survives, which trial stands for it, and what its row shows."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from data.io import append_json_line, read_json, write_bytes
from evaluation.ending import Ending
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.final.outcome import failures, make_rows
from orchestrator.final.seeds import lost_seeds, variant_end
from orchestrator.gates import EarlyStopping
from orchestrator.run.ledger import TrialEnd
from orchestrator.run.records import keep_predictions
from orchestrator.state import Prepared, Started, Trained
from tests.orchestrator.final.planted import NUM_QUERIES, answer

EXPERIMENT = "name: seeded\nseed: 9\nseeds: [1, 2, 3]\nvariants: {mamba_s: {}}\nbaselines: [last_vector]\n"
SHARES = {"mamba_s@1": 0.4, "mamba_s@2": 0.5, "mamba_s@3": 0.3}
SELECTION = EarlyStopping(metric="val_soft_r@5", mode="max", patience=3)
LATENCY = {"metrics": {"p95_ms": 0.7}, "ci": {"p95_ms": (0.6, 0.8)}, "latency_ms": np.full(10, 0.7, np.float32)}


def ends(*endings: Ending) -> dict[str, TrialEnd]:
    names = [f"mamba_s@{seed}" for seed in (1, 2, 3)]
    told = zip(names, endings, strict=True)
    return {name: TrialEnd(ending=ending, epoch=4, reason=f"so {name} was") for name, ending in told}


@pytest.fixture
def prepared(prepared_from: Callable[[str], Prepared]) -> Prepared:
    """Seed 2 has the best validation score, at its second epoch."""
    made = prepared_from(EXPERIMENT)
    for name, scores in {"mamba_s@1": (0.5, 0.6), "mamba_s@2": (0.2, 0.7), "mamba_s@3": (0.3, 0.1)}.items():
        folder = made.ledger.variant(name)
        folder.path.mkdir(parents=True)
        for epoch, score in enumerate(scores, start=1):
            line = {"epoch": epoch, "val_soft_r@5": score, "seconds": {"step": 2.0}, "windows_seen": 64 * epoch}
            append_json_line(folder.metrics, line)
        write_bytes(folder.best, f"weights of {name}".encode())
        keep_predictions(folder, {"best_epoch": 2, "predict_ms": [2.0] * 20}, np.ones((NUM_QUERIES, 16), np.float32))
    return made


@pytest.fixture
def finals(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> FinalEvaluations:
    def evaluate(name: str, query_set: str, predictions: np.ndarray) -> dict[str, Any]:
        return {**answer(SHARES[name]), "metrics": figures(SHARES[name])}

    baseline = {**answer(0.1), "metrics": figures(0.1), "predict_ms": np.full(3, 0.5, np.float32), "chosen": {}}
    evaluator = SimpleNamespace(
        evaluate=SimpleNamespace(remote=evaluate),
        baselines=SimpleNamespace(remote=lambda query_set: {"last_vector": baseline}),
        latencies=SimpleNamespace(remote=lambda query_set, num: dict.fromkeys(["last_vector", *SHARES], LATENCY)),
    )
    monkeypatch.setattr(ray, "get", lambda found: found)
    return FinalEvaluations(prepared, Started(admission=None, evaluator=evaluator, windows=None, line=None, orders={}))


def figures(share: float) -> dict[str, float]:
    return {"r@5": share, "novel.r@5": share, "novel.contain@50": share, "n_queries": NUM_QUERIES}


def end_of(prepared: Prepared, found: dict[str, TrialEnd], survive: float = 0.5) -> Any:
    planned = prepared.config.trials_of("mamba_s")
    return variant_end(planned, found, prepared.ledger, selection=SELECTION, survive=survive)


def test_a_trial_is_named_by_variant_and_seed_and_with_one_seed_by_the_variant(
    prepared: Prepared, prepared_from: Callable[[str], Prepared]
) -> None:
    assert {name: trial.seed for name, trial in prepared.config.trials.items()} == dict(
        zip(SHARES, (1, 2, 3), strict=True)
    )
    alone = prepared_from("name: alone\nseed: 9\nvariants: {mamba_s: {}}\n").config
    assert {name: trial.seed for name, trial in alone.trials.items()} == {"mamba_s": 9}


@pytest.mark.parametrize(
    ("endings", "survive", "expected"),
    [
        ((Ending.FINISHED, Ending.FINISHED, Ending.PRUNED), 0.5, Ending.FINISHED),
        ((Ending.FINISHED, Ending.PRUNED, Ending.PRUNED), 0.5, Ending.PRUNED),
        ((Ending.FINISHED, Ending.PRUNED, Ending.PRUNED), 0.3, Ending.FINISHED),
        ((Ending.FINISHED, Ending.FINISHED, Ending.FAILED), 1.0, Ending.FAILED),
        ((Ending.EARLY_STOPPED, Ending.FINISHED, Ending.EARLY_STOPPED), 0.5, Ending.EARLY_STOPPED),
    ],
)
def test_a_variant_survives_when_enough_of_its_seeds_do(
    prepared: Prepared, endings: tuple[Ending, ...], survive: float, expected: Ending
) -> None:
    assert end_of(prepared, ends(*endings), survive).end.ending is expected


def test_the_survivor_with_the_best_validation_score_stands_for_the_row(prepared: Prepared) -> None:
    assert end_of(prepared, ends(*[Ending.FINISHED] * 3)).trial == "mamba_s@2"
    found = end_of(prepared, ends(Ending.FINISHED, Ending.DIVERGED, Ending.FINISHED))
    assert (found.trial, found.survivors) == ("mamba_s@1", ["mamba_s@1", "mamba_s@3"])
    assert found.end.reason == "2 of 3 seeds survived; mamba_s@2: so mamba_s@2 was"


def test_a_row_is_the_mean_over_its_seeds_with_an_interval_that_holds_them(
    prepared: Prepared, finals: FinalEvaluations
) -> None:
    found = finals.evaluate_rows(Trained(ends=ends(*[Ending.FINISHED] * 3)))
    row = found.trained["mamba_s"]
    assert row.metrics["novel.r@5"] == pytest.approx(0.4)
    assert row.metrics["answer_p95_ms"] == pytest.approx(2.7)
    low, high = row.ci["novel.r@5"]
    alone = found.trials["mamba_s@1"].ci["novel.r@5"]
    # Three seeds with a standard deviation of 0.1: 4.3 x 0.1 / sqrt(3) to both sides, and more for the articles.
    assert low < 0.4 - 0.2 and high > 0.4 + 0.2
    assert high - low > alone[1] - alone[0]
    folder = prepared.ledger.variant("mamba_s")
    assert np.load(folder.ranks).shape == (3, NUM_QUERIES)
    assert read_json(folder.final)["metrics"]["novel.r@5"] == pytest.approx(0.4)
    assert np.load(prepared.ledger.variant("mamba_s@3").ranks).shape == (NUM_QUERIES,)


def test_the_table_names_each_seed_with_its_own_figures(prepared: Prepared, finals: FinalEvaluations) -> None:
    evaluated = finals.evaluate_rows(Trained(ends=ends(Ending.FINISHED, Ending.FINISHED, Ending.PRUNED)))
    row = make_rows(prepared, evaluated)[0]
    assert (row["trial"], row["status"], row["novel.r@5"]) == ("mamba_s@2", "FINISHED", pytest.approx(0.45))
    told = [(one["seed"], one["status"], one.get("novel.r@5"), one.get("best_epoch")) for one in row["seeds"]]
    assert told == [(1, "FINISHED", 0.4, 2), (2, "FINISHED", 0.5, 2), (3, "PRUNED", None, None)]
    # Three trials of two epochs of 2 s and 128 windows.
    assert (row["train_s"], row["windows_seen"]) == (12.0, 384)
    assert lost_seeds(evaluated.ends) == ["Figures of fewer seeds, those that survived: mamba_s on 2 of 3."]


def test_a_failed_seed_is_named_and_makes_the_run_incomplete(prepared: Prepared, finals: FinalEvaluations) -> None:
    prepared.ledger.variant("mamba_s@3").predictions.unlink()
    rows = make_rows(prepared, finals.evaluate_rows(Trained(ends=ends(*[Ending.FINISHED] * 3))))
    assert (rows[0]["status"], rows[0]["novel.r@5"]) == ("FINISHED", pytest.approx(0.45))
    (said,) = failures(rows)
    assert said.startswith("1 of 4 trials and baselines FAILED: mamba_s@3 (its final evaluation: ")
    prepared.ledger.results.write_text('{"rows": [{"status": "FINISHED", "seeds": [{"status": "FAILED"}]}]}')
    assert not prepared.ledger.is_complete()


SEARCHED = """
name: searched
seeds: [1, 2]
variants: {mamba_s: {}}
training: {epochs: 4}
smoke: {epochs: []}
search: {samples: 2, space: {training.optimizer.lr: [1.0e-4, 2.0e-4]}}
"""


def test_of_a_search_the_settings_with_the_best_mean_stand_for_the_row(
    prepared_from: Callable[[str], Prepared],
) -> None:
    prepared = prepared_from(SEARCHED)
    scores = {"mamba_s.1@1": 0.9, "mamba_s.1@2": 0.1, "mamba_s.2@1": 0.5, "mamba_s.2@2": 0.7}
    for name, score in scores.items():
        prepared.ledger.variant(name).path.mkdir(parents=True)
        append_json_line(prepared.ledger.variant(name).metrics, {"epoch": 1, "val_soft_r@5": score})
    assert {name: (trial.sample, trial.seed) for name, trial in prepared.config.trials.items()} == {
        "mamba_s.1@1": ("mamba_s.1", 1),
        "mamba_s.1@2": ("mamba_s.1", 2),
        "mamba_s.2@1": ("mamba_s.2", 1),
        "mamba_s.2@2": ("mamba_s.2", 2),
    }
    told = {name: TrialEnd(ending=Ending.FINISHED, epoch=4, reason="") for name in scores}
    found = end_of(prepared, told)
    assert (found.trial, found.survivors) == ("mamba_s.2@2", ["mamba_s.2@1", "mamba_s.2@2"])
    assert found.end.reason == "2 of 2 settings survived"
    told["mamba_s.2@1"] = told["mamba_s.2@2"] = TrialEnd(ending=Ending.HALVED, epoch=1, reason="worse")
    found = end_of(prepared, told)
    assert (found.trial, found.survivors, found.end.ending) == (
        "mamba_s.1@1",
        ["mamba_s.1@1", "mamba_s.1@2"],
        Ending.FINISHED,
    )
    assert found.end.reason == "1 of 2 settings survived"
