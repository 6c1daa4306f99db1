"""Each row is evaluated once, kept with the truth of every query, and takes no other with it when it cannot be."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from evaluation.ending import Ending
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.run.ledger import TrialEnd
from orchestrator.run.records import keep_predictions
from orchestrator.state import Prepared, Started, Trained
from tests.orchestrator.conftest import admission

EXPERIMENT = "name: ended\nvariants: {mamba_s: {}, mamba_h: {}, mamba_xl: {}, amn: {}}\nbaselines: [last_vector]\n"
NUM_QUERIES = 200
RANKS = np.resize(np.array([1, 0, 7, 5], np.int32), NUM_QUERIES)
SEARCH_MS = np.full(50, 0.5, np.float32)
TIMED = {"metrics": {"p95_ms": 0.5}, "ci": {"p95_ms": (0.5, 0.5)}, "latency_ms": SEARCH_MS}


def answer(**more: Any) -> dict[str, Any]:
    """What the evaluation actor returns: of every four targets two are within five ranks."""
    return {
        "metrics": {"r@5": 0.5, "p95_ms": float("nan")},
        "ranks": RANKS,
        "ranks_pool": RANKS,
        "cosine": np.linspace(0.0, 1.0, NUM_QUERIES).astype(np.float32),
        **more,
    }


class Evaluator:
    """Answers for every row; remembers the names of the trained ones that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.evaluate = SimpleNamespace(remote=self._evaluate)
        untrained = {"last_vector": answer(predict_ms=np.full(9, 0.25), chosen={})}
        self.baselines = SimpleNamespace(remote=lambda query_set: untrained)
        self.latencies = SimpleNamespace(remote=lambda query_set, num: dict.fromkeys([*untrained, *self.asked], TIMED))

    def _evaluate(self, name: str, query_set: str, predictions: Any) -> dict[str, Any]:
        self.asked.append(name)
        return answer()


@pytest.fixture
def finals(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> FinalEvaluations:
    """Final evaluations of three survivors, one of which left no predictions."""
    monkeypatch.setattr(ray, "get", lambda found: found)
    prepared: Prepared = prepared_from(EXPERIMENT)
    for name in ("mamba_s", "amn"):
        folder = prepared.ledger.variant(name)
        folder.path.mkdir(parents=True)
        folder.best.write_bytes(b"weights")
        keep_predictions(folder, {"predict_ms": [2.0] * 9, "best_epoch": 3}, np.zeros((NUM_QUERIES, 16), np.float32))
    return FinalEvaluations(prepared, Started(admission=admission(), evaluator=Evaluator(), windows=None, orders=None))


def trained(**ends: Ending) -> Trained:
    return Trained(ends={name: TrialEnd(ending=ending, epoch=4, reason="so it was") for name, ending in ends.items()})


ENDS = trained(mamba_s=Ending.FINISHED, mamba_h=Ending.FINISHED, mamba_xl=Ending.PRUNED, amn=Ending.EARLY_STOPPED)


def test_survivors_and_configured_baselines_are_evaluated_and_timed(finals: FinalEvaluations) -> None:
    found = finals.evaluate_rows(ENDS)
    assert set(found.trained) == {"mamba_s", "amn"}
    assert set(found.untrained) == {"last_vector"}
    every = {**found.trained, **found.untrained}
    assert {name: row.metrics["p95_ms"] for name, row in every.items()} == dict.fromkeys(every, 0.5)


def test_the_whole_answers_time_is_the_forward_pass_and_the_search(finals: FinalEvaluations) -> None:
    found = finals.evaluate_rows(ENDS)
    # Every sample is the same, so the P95 of the sum is the sum.
    amn, untrained = found.trained["amn"].metrics, found.untrained["last_vector"].metrics
    assert (amn["predict_p95_ms"], amn["answer_p95_ms"]) == (2.0, 2.5)
    assert (untrained["predict_p95_ms"], untrained["answer_p95_ms"]) == (0.25, 0.75)


def test_a_result_is_kept_with_the_truth_of_every_query(finals: FinalEvaluations) -> None:
    result = finals.evaluate_rows(ENDS).trained["mamba_s"]
    folder = finals._prepared.ledger.variant("mamba_s")
    assert np.load(folder.path / "ranks.npy").tolist() == RANKS.tolist()
    assert np.load(folder.path / "latency_ms.npy").tolist() == SEARCH_MS.tolist()
    stored = json.loads(folder.final.read_text())
    assert stored["metrics"] == result.metrics
    assert stored["checkpoint"]["epoch"] == result.checkpoint_epoch == 3
    low, high = result.ci["r@5"]
    assert 0.0 < low < 0.5 < high < 1.0


def test_a_survivor_that_cannot_be_evaluated_failed_and_the_others_keep_theirs(
    finals: FinalEvaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    found = finals.evaluate_rows(ENDS)
    end = found.ends["mamba_h"]
    assert (end.ending, end.epoch) == (Ending.FAILED, 4)
    assert end.reason.startswith("its final evaluation: FileNotFoundError")
    assert found.ends["mamba_s"].ending is Ending.FINISHED
    assert "Traceback" in capsys.readouterr().err


def test_a_stages_gates_and_the_table_read_the_same_result(finals: FinalEvaluations) -> None:
    first = finals.survivor("mamba_s")
    assert finals.survivor("mamba_h") is None
    finals.evaluate_rows(ENDS)
    assert finals.survivor("mamba_s") is first
    assert finals._evaluator.asked == ["mamba_s", "amn"]
