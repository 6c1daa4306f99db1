"""Each row is evaluated once and keeps the truth of every query; one that cannot be takes no other with it."""

from collections.abc import Callable
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from data.io import read_json, write_bytes
from evaluation.ending import Ending
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.run.ledger import Ledger, TrialEnd
from orchestrator.run.records import keep_predictions
from orchestrator.state import Prepared, Started, Trained
from tests.orchestrator.final.planted import NUM_QUERIES, answer, ranks

EXPERIMENT = "name: ended\nvariants: {mamba_s: {}, mamba_h: {}, mamba_xl: {}, amn: {}}\nbaselines: [last_vector]\n"
LATENCY = {"metrics": {"p95_ms": 0.7}, "ci": {"p95_ms": (0.6, 0.8)}, "latency_ms": np.full(10, 0.7, np.float32)}
PREDICTIONS = np.ones((NUM_QUERIES, 16), np.float32)


class Evaluator:
    """Finds half of the targets for every trained row and a tenth for a baseline; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.evaluate = SimpleNamespace(remote=self._evaluate)
        ewm = {**answer(0.1), "predict_ms": np.full(3, 0.5, np.float32), "chosen": {"decay": 0.5}}
        self.baselines = SimpleNamespace(remote=lambda query_set: {"last_vector": ewm})
        self.latencies = SimpleNamespace(
            remote=lambda query_set, num: dict.fromkeys(["last_vector", *self.asked], LATENCY)
        )

    def _evaluate(self, name: str, query_set: str, predictions: np.ndarray) -> dict[str, Any]:
        assert query_set == "final"
        np.testing.assert_array_equal(predictions, PREDICTIONS)
        self.asked.append(name)
        return answer(0.5)


@pytest.fixture
def prepared(prepared_from: Callable[[str], Prepared]) -> Prepared:
    made = prepared_from(EXPERIMENT)
    for name in ("mamba_s", "mamba_h", "amn"):
        folder = made.ledger.variant(name)
        write_bytes(folder.best, f"weights of {name}".encode())
        keep_predictions(folder, {"best_epoch": 3, "predict_ms": [2.0] * 20}, PREDICTIONS)
    return made


@pytest.fixture
def ledger(prepared: Prepared) -> Ledger:
    return prepared.ledger


@pytest.fixture
def finals(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> FinalEvaluations:
    monkeypatch.setattr(ray, "get", lambda found: found)
    return FinalEvaluations(
        prepared, Started(admission=None, evaluator=Evaluator(), windows=None, line=None, orders=None)
    )


def trained(**ends: Ending) -> Trained:
    return Trained(ends={name: TrialEnd(ending=ending, epoch=4, reason="so it was") for name, ending in ends.items()})


ENDS = trained(mamba_s=Ending.FINISHED, mamba_h=Ending.FINISHED, mamba_xl=Ending.PRUNED, amn=Ending.EARLY_STOPPED)


def test_survivors_and_configured_baselines_are_evaluated_and_timed(finals: FinalEvaluations) -> None:
    found = finals.evaluate_rows(ENDS)
    assert set(found.trained) == {"mamba_s", "mamba_h", "amn"}
    assert set(found.untrained) == {"last_vector"}
    # The whole answer is the forward pass, 2 ms, and the search, 0.7.
    for name, predict_ms in (("amn", 2.0), ("last_vector", 0.5)):
        figures = {**found.trained, **found.untrained}[name].metrics
        assert (figures["p95_ms"], figures["predict_p95_ms"]) == (0.7, predict_ms)
        assert figures["answer_p95_ms"] == pytest.approx(predict_ms + 0.7)
    assert found.untrained["last_vector"].chosen == {"decay": 0.5}


def test_a_final_result_is_kept_with_the_truth_of_every_query(finals: FinalEvaluations, ledger: Ledger) -> None:
    kept = finals.evaluate_rows(ENDS).trained["amn"]
    folder = ledger.variant("amn")
    assert np.load(folder.ranks).dtype == np.int32
    np.testing.assert_array_equal(np.load(folder.ranks), ranks(0.5))
    stored = read_json(folder.final)
    digest = sha256(b"weights of amn").hexdigest()
    assert stored["checkpoint"] == {"sha256": digest, "epoch": 3}
    assert (kept.checkpoint_sha256, kept.checkpoint_epoch) == (digest, 3)
    assert stored["metrics"] == pytest.approx(kept.metrics)
    assert stored["ci"]["p95_ms"] == [0.6, 0.8]
    low, high = stored["ci"]["novel.r@5"]
    assert 0.2 < low < 0.5 < high < 0.8


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_survivor_whose_predictions_cannot_be_read_failed_and_the_others_keep_theirs(
    finals: FinalEvaluations, ledger: Ledger, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    file = ledger.variant("mamba_h").predictions
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    found = finals.evaluate_rows(ENDS)
    failed = found.ends["mamba_h"].end
    assert (failed.ending, failed.epoch) == (Ending.FAILED, 4)
    assert failed.reason.startswith("its final evaluation: ")
    assert str(file) in failed.reason
    assert found.ends["mamba_s"].end.ending is Ending.FINISHED
    assert set(found.trained) == {"mamba_s", "amn"}
    assert "Traceback" in capsys.readouterr().err


def test_a_stages_gates_and_the_table_read_the_same_result(finals: FinalEvaluations) -> None:
    first = finals.variant("mamba_s", ENDS.ends)
    assert first is not None
    outcomes = finals.evaluate_rows(ENDS).trained["mamba_s"].outcomes
    assert outcomes is first.outcomes
    assert finals._evaluator.asked == ["mamba_s", "mamba_h", "amn"]
