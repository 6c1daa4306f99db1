"""Each row is evaluated once, and one that cannot be evaluated takes no other with it."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from evaluation.ending import Ending
from orchestrator.final import evaluate
from orchestrator.final.evaluate import FinalEvaluations
from orchestrator.run.ledger import TrialEnd
from orchestrator.state import Prepared, Started, Trained
from tests.orchestrator.final.test_final import answer

EXPERIMENT = "name: ended\nvariants: {mamba_s: {}, mamba_h: {}, mamba_xl: {}, amn: {}}\nbaselines: [last_vector]\n"
LATENCY = {"metrics": {"p95_ms": 0.7}, "ci": {}, "latency_ms": None}


class Evaluator:
    """Answers for every row; remembers the names of the trained ones that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.evaluate = SimpleNamespace(remote=self._evaluate)
        untrained = {name: answer([1, 2]) for name in ("last_vector", "context_mean")}
        self.baselines = SimpleNamespace(remote=lambda query_set: untrained)
        self.latencies = SimpleNamespace(
            remote=lambda query_set, num: dict.fromkeys([*untrained, *self.asked], LATENCY)
        )

    def _evaluate(self, name: str, query_set: str, predictions: str) -> dict[str, Any]:
        self.asked.append(name)
        return answer([1, 1])


@pytest.fixture
def finals(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> FinalEvaluations:
    def predict(checkpoint: str, *_: Any) -> dict[str, Any]:
        if "mamba_h" in checkpoint:
            raise OSError("best.pt is damaged")
        return {"predictions": "these", "predict_p95_ms": 2.0, "sha256": "abc", "epoch": 3}

    monkeypatch.setattr(ray, "get", lambda found: found)
    monkeypatch.setattr(evaluate, "save_arrays", lambda *_: None)
    prepared: Prepared = prepared_from(EXPERIMENT)
    made = FinalEvaluations(prepared, Started(admission=None, evaluator=Evaluator(), orders=None))
    made.predictor = SimpleNamespace(predict=SimpleNamespace(remote=predict))
    return made


def trained(**ends: Ending) -> Trained:
    return Trained(ends={name: TrialEnd(ending=ending, epoch=4, reason="so it was") for name, ending in ends.items()})


ENDS = trained(mamba_s=Ending.FINISHED, mamba_h=Ending.FINISHED, mamba_xl=Ending.PRUNED, amn=Ending.EARLY_STOPPED)


def test_survivors_and_configured_baselines_are_evaluated_and_timed(finals: FinalEvaluations) -> None:
    found = finals.evaluate_rows(ENDS)
    assert set(found.trained) == {"mamba_s", "amn"}
    assert set(found.untrained) == {"last_vector"}
    assert found.trained["amn"].metrics["predict_p95_ms"] == 2.0
    assert {result.metrics["p95_ms"] for result in (*found.trained.values(), *found.untrained.values())} == {0.7}


def test_a_survivor_whose_evaluation_raises_failed_and_the_others_keep_theirs(
    finals: FinalEvaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    found = finals.evaluate_rows(ENDS)
    reason = "its final evaluation: OSError: best.pt is damaged"
    assert found.ends["mamba_h"] == TrialEnd(ending=Ending.FAILED, epoch=4, reason=reason)
    assert found.ends["mamba_s"].ending is Ending.FINISHED
    assert "Traceback" in capsys.readouterr().err


def test_a_stages_gates_and_the_table_read_the_same_result(finals: FinalEvaluations) -> None:
    first = finals.survivor("mamba_s")
    assert finals.survivor("mamba_h") is None
    finals.evaluate_rows(ENDS)
    assert finals.survivor("mamba_s") is first
    assert finals._evaluator.asked == ["mamba_s", "amn"]
