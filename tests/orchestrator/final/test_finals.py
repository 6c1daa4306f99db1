"""Each row is evaluated once and kept on disk, and one that cannot be evaluated takes no other with it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.io import read_json, write_bytes
from evaluation.ending import Ending
from orchestrator.final import evaluate
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.run.ledger import TrialEnd, VariantFolder
from orchestrator.run.records import keep_predictions
from orchestrator.state import Prepared, Started, Trained

EXPERIMENT = "name: ended\nvariants: {mamba_s: {}, mamba_h: {}, mamba_xl: {}, amn: {}}\nbaselines: [last_vector]\n"
NUM_QUERIES = 200


def answer(num_found: int) -> dict[str, Any]:
    """What the evaluation actor returns when so many targets come first and the others are not found."""
    ranks = (np.arange(NUM_QUERIES) < num_found).astype(np.int32)
    names = ("ranks", "ranks_pool", "ranks_exclude_context", "ranks_pool_exclude_context")
    return {
        "metrics": {"r@5": num_found / NUM_QUERIES, "n_queries": NUM_QUERIES},
        "ci": {},
        **dict.fromkeys(names, ranks),
        "cosine": np.zeros(NUM_QUERIES, np.float32),
        "neighbours": np.zeros((NUM_QUERIES, 50), np.int32),
    }


class Evaluator:
    """Answers for every row; remembers the trained ones that it was asked for, with their predictions."""

    def __init__(self) -> None:
        self.asked: dict[str, np.ndarray] = {}
        self.evaluate = SimpleNamespace(remote=self._evaluate)
        baseline = {**answer(20), "predict_ms": np.array([0.5]), "chosen": {"decay": 0.5}}
        self.baselines = SimpleNamespace(remote=lambda query_set: {"last_vector": baseline})
        self.latencies = SimpleNamespace(remote=self._latencies)

    def _evaluate(self, name: str, query_set: str, predictions: np.ndarray) -> dict[str, Any]:
        assert name not in self.asked
        self.asked[name] = predictions
        return answer(100)

    def _latencies(self, query_set: str, num_timed: int) -> dict[str, Any]:
        timed = {"metrics": {"p95_ms": 0.7}, "ci": {"p95_ms": (0.6, 0.8)}, "latency_ms": np.full(9, 0.7, np.float32)}
        return dict.fromkeys(["last_vector", *self.asked], timed)


@pytest.fixture
def finals(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> FinalEvaluations:
    monkeypatch.setattr(evaluate.ray, "get", lambda found: found)
    prepared: Prepared = prepared_from(EXPERIMENT)
    for name in ("mamba_s", "mamba_h", "amn"):
        folder = prepared.ledger.variant(name)
        write_bytes(folder.best, f"weights of {name}".encode())
        if name != "mamba_h":
            about = {"best_epoch": 3, "predict_ms": [2.0, 2.0]}
            keep_predictions(folder, about, np.full((NUM_QUERIES, 16), 0.25, np.float32))
    return FinalEvaluations(prepared, Started(admission=None, evaluator=Evaluator(), windows=None, orders=None))


def trained(**ends: Ending) -> Trained:
    return Trained(ends={name: TrialEnd(ending=ending, epoch=4, reason="so it was") for name, ending in ends.items()})


ENDS = trained(mamba_s=Ending.FINISHED, mamba_h=Ending.FINISHED, mamba_xl=Ending.PRUNED, amn=Ending.EARLY_STOPPED)


def folder_of(finals: FinalEvaluations, name: str) -> VariantFolder:
    return finals._prepared.ledger.variant(name)


def test_survivors_and_baselines_are_evaluated_and_timed_with_their_forward_pass(finals: FinalEvaluations) -> None:
    found = finals.evaluate_rows(ENDS)
    assert (set(found.trained), set(found.untrained)) == ({"mamba_s", "amn"}, {"last_vector"})
    metrics = found.trained["amn"].metrics
    assert (metrics["r@5"], metrics["p95_ms"], metrics["predict_p95_ms"]) == (0.5, 0.7, 2.0)
    assert metrics["answer_p95_ms"] == pytest.approx(2.7)
    assert found.trained["amn"].checkpoint_epoch == 3
    assert found.untrained["last_vector"].chosen == {"decay": 0.5}
    assert finals._evaluator.asked["amn"].shape == (NUM_QUERIES, 16)


def test_a_result_is_kept_with_the_truth_of_every_query(finals: FinalEvaluations) -> None:
    found = finals.evaluate_rows(ENDS).trained["mamba_s"]
    folder = folder_of(finals, "mamba_s")
    ranks = np.load(folder.ranks)
    assert (ranks.dtype, int(ranks.sum())) == (np.int32, 100)
    stored = read_json(folder.final)
    assert stored["metrics"] == found.metrics
    assert stored["checkpoint"] == {"sha256": found.checkpoint_sha256, "epoch": 3}
    low, high = stored["ci"]["r@5"]
    assert 0.0 <= low < 0.5 < high <= 1.0


def test_a_survivor_whose_evaluation_raises_failed_and_the_others_keep_theirs(
    finals: FinalEvaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = finals.evaluate_rows(ENDS).ends
    assert (ends["mamba_h"].ending, ends["mamba_h"].epoch) == (Ending.FAILED, 4)
    assert ends["mamba_h"].reason.startswith("its final evaluation: FileNotFoundError: ")
    assert ends["mamba_s"].ending is Ending.FINISHED
    assert "Traceback" in capsys.readouterr().err


def test_a_stages_gates_and_the_table_read_the_same_result(finals: FinalEvaluations) -> None:
    first = finals.survivor("mamba_s")
    assert finals.survivor("mamba_h") is None
    finals.evaluate_rows(ENDS)
    assert finals.survivor("mamba_s") is first
    assert set(finals._evaluator.asked) == {"mamba_s", "amn"}
