"""Baselines and metrics of somebody else, named by import path."""

import sys
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from evaluation.measures import metrics
from evaluation.measures.metrics import METRICS, own_metrics, register_metrics, summarise
from evaluation.retrieval.baselines import parameter_free

MODULE = """
import numpy as np

def last(context):
    return context[:, -1].astype(np.float64)

def long(context):
    return 2 * context[:, -1]

def flat(context):
    return context.reshape(-1)

def raises(context):
    raise KeyError("nothing")

def third(ranks):
    return (ranks == 3).astype(float)

def undefined(ranks):
    return 1.0 / ranks

def cosine(ranks):
    return ranks
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "others_rows.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "others_rows", raising=False)
    monkeypatch.setattr(metrics, "_own", {})
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))


def test_a_baseline_of_somebody_else_predicts_like_one_of_ours():
    context = np.eye(4, dtype=np.float32)[[[0, 1], [2, 3]]]
    found = parameter_free("others_rows:last")(context)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, context[:, -1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("long", r"baselines: others_rows:long: expected unit predictions \(4, 8\).*another norm"),
        ("flat", r"baselines: others_rows:flat: expected unit predictions \(4, 8\).*got \(96,\)"),
        ("raises", r"baselines: others_rows:raises: expected a map of contexts \(Q, L, D\), got KeyError"),
        ("missing", r"baselines: expected missing in others_rows, got a module without it"),
    ],
)
def test_a_baseline_that_would_not_do_is_refused(name, said):
    with pytest.raises(UserError, match=said):
        parameter_free(f"others_rows:{name}")


def test_a_registered_metric_is_a_mean_over_queries():
    register_metrics(["others_rows:third"])
    ranks = np.array([3, 1, 3, 0], np.int32)
    assert own_metrics() == ("third",)
    assert summarise(ranks, ranks, np.zeros(4))["third"] == 0.5
    assert metrics.per_query("third", np.stack([ranks, ranks]), ranks, np.zeros(4)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("undefined", r"metrics: expected others_rows:undefined to give a number for each rank, 0 \(not found\) too"),
        ("cosine", r"metrics: expected a new name, got 'others_rows:cosine', and cosine is a metric"),
        ("last", r"metrics: expected others_rows:last to map ranks \(Q,\) to values \(Q,\), got IndexError"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_metric_that_would_not_do_is_refused(name, said):
    with pytest.raises(UserError, match=said):
        register_metrics([f"others_rows:{name}"])


def test_a_launch_without_metrics_has_none_of_an_earlier_one_of_its_process():
    register_metrics(["others_rows:third"])
    register_metrics([])
    assert own_metrics() == ()
    assert "third" not in metrics.METRICS
