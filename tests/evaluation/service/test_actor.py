"""The evaluation service without a cluster."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from data.payload import store as payloads
from evaluation.config import IndexConfig, RerankConfig
from evaluation.retrieval.corpus import QuerySet, TrainingWindows
from evaluation.retrieval.fitted import ridge
from evaluation.service import actor

CONTEXT_LENGTH = 3
PARAMETER_FREE = ("last_vector", "context_mean")


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """10 articles of 12 chunks in 16 dimensions; row 5 repeats row 4."""
    vectors = unit(np.random.default_rng(0).standard_normal((120, 16)))
    vectors[5] = vectors[4]
    path = tmp_path_factory.mktemp("payload") / "payload"
    payloads.write_payload(
        path,
        vectors=vectors,
        article_index=np.repeat(np.arange(10, dtype=np.int32), 12),
        chunk_index=np.tile(np.arange(12, dtype=np.int32), 10),
        texts=[f"chunk {row}" for row in range(120)],
        titles={article: f"article {article}" for article in range(10)},
        embedder="planted",
        source={},
    )
    return str(path)


@pytest.fixture
def query_sets():
    start = np.arange(0, 120, 12, dtype=np.int32)
    windows = start[:, None] + np.arange(CONTEXT_LENGTH + 1, dtype=np.int32)
    return [QuerySet("smoke", windows[:4]), QuerySet("final", windows)]


@pytest.fixture
def evaluator(folder, query_sets):
    return actor.Evaluator(folder, IndexConfig(kind="flat"), query_sets, baselines=PARAMETER_FREE)


@pytest.mark.parametrize("threads", [1, 3])
def test_searches_have_one_thread_however_many_a_fit_has(folder, query_sets, monkeypatch, threads):
    asked = []
    monkeypatch.setattr("faiss.omp_set_num_threads", asked.append)
    actor.Evaluator(folder, IndexConfig(kind="flat"), query_sets, threads=threads)
    assert asked == [1]


def targets(folder, queries):
    return np.asarray(payloads.open_payload(folder).vectors[queries.target])


def test_the_index_is_built_once_however_often_it_is_asked(evaluator, folder, query_sets):
    for queries in query_sets:
        evaluator.evaluate("mamba_s", queries.name, targets(folder, queries))
    evaluator.baselines("final")
    ready = evaluator.ready()
    assert ready["index_builds"] == 1
    assert ready["index"]["n"] == 120
    assert ready["query_sets"] == {"smoke": 4, "final": 10}


def test_a_kept_index_is_opened_and_not_built_again(folder, query_sets, tmp_path):
    config = IndexConfig(kind="ivf_flat", nlist=4)
    counts = [
        actor.Evaluator(folder, config, query_sets, index_dir=str(tmp_path)).ready()["index_builds"] for _ in range(2)
    ]
    assert counts == [1, 0]


def test_perfect_predictions_are_scored_perfect_under_both_protocols(evaluator, folder, query_sets):
    answer = evaluator.evaluate("mamba_s", "final", targets(folder, query_sets[1]))
    assert answer["metrics"]["r@1"] == answer["metrics"]["exclude_context.r@1"] == 1.0
    assert answer["metrics"]["n_queries"] == 10
    assert answer["ranks"].dtype == answer["ranks_exclude_context"].dtype == np.int32
    assert "p95_ms" not in answer["metrics"]


def test_baselines_go_through_the_same_path(evaluator, folder, query_sets):
    answers = evaluator.baselines("final", latency_queries=5)
    assert set(answers) == {"last_vector", "context_mean"}
    last = np.asarray(payloads.open_payload(folder).vectors[query_sets[1].windows[:, -2]])
    np.testing.assert_array_equal(answers["last_vector"]["ranks"], evaluator.evaluate("x", "final", last)["ranks"])
    assert answers["context_mean"]["metrics"]["p95_ms"] > 0
    assert answers["context_mean"]["metrics"]["predict_p95_ms"] > 0 and len(answers["context_mean"]["predict_ms"]) > 0


def test_predictions_of_baselines_are_not_timed_unless_asked_for(evaluator):
    answers = evaluator.baselines("smoke", time_predictions=False)
    assert "predict_ms" not in answers["last_vector"]
    assert "predict_p95_ms" not in answers["last_vector"]["metrics"]


def test_latency_is_timed_on_single_queries_with_intervals(evaluator, folder, query_sets):
    answer = evaluator.evaluate("mamba_s", "smoke", targets(folder, query_sets[0]), latency_queries=30)
    assert answer["latency_ms"].shape == (30,)
    low, high = answer["ci"]["p95_ms"]
    assert 0 < low <= answer["metrics"]["p95_ms"] <= high
    assert "p95_ms_first" not in answer["metrics"]


def test_what_was_evaluated_last_is_timed_once_more(evaluator, folder, query_sets):
    evaluator.evaluate("mamba_s", "smoke", targets(folder, query_sets[0]))
    again = evaluator.time_again("mamba_s", "smoke", 10)
    assert 0.0 < again["p50_ms"] <= again["p95_ms"] <= again["p99_ms"]


def test_triage_asks_of_what_was_evaluated_last(evaluator, folder, query_sets):
    evaluator.evaluate("mamba_s", "smoke", targets(folder, query_sets[0]))
    assert all(item["finding"] for item in evaluator.triage("mamba_s", "smoke"))


def test_a_fitted_baseline_is_fitted_to_the_training_windows_and_needs_them(folder, query_sets):
    windows = query_sets[1].windows
    training = TrainingWindows(windows, windows, np.ones(len(windows), bool))
    flat = IndexConfig(kind="flat")
    answers = actor.Evaluator(folder, flat, query_sets, training=training, baselines=["nearest_context"]).baselines(
        "final"
    )
    # Every query is a training window, so the look-up knows its successor.
    assert answers["nearest_context"]["metrics"]["r@1"] == 1.0
    with pytest.raises(ValueError, match=r"baseline.ridge: expected training windows to fit it to, got none"):
        actor.Evaluator(folder, flat, query_sets, baselines=["ridge"]).baselines("final")


def test_a_baseline_weighs_validation_by_its_articles(folder, query_sets, monkeypatch):
    given = []
    monkeypatch.setattr(ridge, "simplest", lambda scores, articles: given.append(articles) or 0)
    windows = query_sets[1].windows[::-1]
    training = TrainingWindows(windows, windows, np.ones(len(windows), bool))
    flat = IndexConfig(kind="flat")
    actor.Evaluator(folder, flat, query_sets, training=training, baselines=["whitened_ridge"]).baselines("final")
    assert given[0].tolist() == payloads.open_payload(folder).article_index[windows[:, -1]].tolist()


def test_an_unknown_query_set_is_refused_with_the_known_ones(evaluator):
    with pytest.raises(ValueError, match="query set: expected one of smoke, final, got 'test'"):
        evaluator.evaluate("mamba_s", "test", np.zeros((1, 16), np.float32))


def test_the_process_of_the_evaluator_never_imports_torch(folder):
    program = f"""
        import numpy as np
        from evaluation.service.actor import Evaluator
        from evaluation.config import IndexConfig, RerankConfig
        from evaluation.retrieval.corpus import QuerySet, TrainingWindows
        windows = np.arange(4, dtype=np.int32)[None]
        training = TrainingWindows(windows, windows, np.ones(1, bool))
        queries = [QuerySet("final", windows)]
        evaluator = Evaluator({folder!r}, IndexConfig(kind="ivf_flat", nlist=2), queries, training=training)
        evaluator.baselines("final", latency_queries=3)
        assert evaluator.ready()["torch_imported"] is False
        import sys
        assert not [name for name in sys.modules if name.split(".")[0] == "torch"]
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_packages_modules_that_need_no_faiss_import_none():
    program = """
        import sys
        import evaluation.config, evaluation.measures.metrics
        import evaluation.retrieval.baselines, evaluation.report.table
        assert not {"faiss", "torch"} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_a_reranker_the_baselines_have_the_row_of_the_prior_alone(folder, query_sets):
    evaluator = actor.Evaluator(
        folder, IndexConfig(kind="flat"), query_sets, baselines=PARAMETER_FREE, rerank=RerankConfig()
    )
    answers = evaluator.baselines("final", latency_queries=5)
    assert set(answers) == {"last_vector", "context_mean", "prior-only"}
    assert answers["prior-only"]["metrics"]["r@1"] >= 0.9
    assert answers["prior-only"]["metrics"]["p95_ms"] > 0
    assert evaluator.ready()["rerank"]["mmr_lambda"] == 0.7


def test_reranking_is_a_part_of_the_timed_query(folder, query_sets, monkeypatch):
    calls = []
    evaluator = actor.Evaluator(
        folder, IndexConfig(kind="flat"), query_sets, baselines=PARAMETER_FREE, rerank=RerankConfig()
    )
    rerank = evaluator._reranker
    monkeypatch.setattr(
        evaluator, "_reranker", lambda one, *args, **kwargs: calls.append(len(one)) or rerank(one, *args, **kwargs)
    )
    evaluator.evaluate("mamba_s", "smoke", targets(folder, query_sets[0]), latency_queries=10)
    assert calls.count(1) == 30, "20 to warm up and 10 timed"


def test_all_that_was_evaluated_is_timed_in_turns(evaluator):
    evaluator.baselines("final")
    found = evaluator.latencies("final", 40)
    assert set(found) == {"last_vector", "context_mean"}
    for answer in found.values():
        assert len(answer["latency_ms"]) == 40
        assert 0.0 < answer["metrics"]["p50_ms"] <= answer["metrics"]["p95_ms"]
        assert set(answer["ci"]) == {"p50_ms", "p95_ms", "p99_ms"}


def test_a_handle_has_every_public_method_of_the_evaluator_and_no_other() -> None:
    from evaluation.service.actor import Evaluator
    from evaluation.service.remote import RemoteEvaluator

    def public(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(RemoteEvaluator) == public(Evaluator)
