"""What all trials share, with actors that are plain objects: what the evaluator is given and what it measures."""

import io
from types import SimpleNamespace
from typing import Any

import pytest

from data.errors import UserError
from orchestrator import services
from orchestrator.state import Prepared, Session, Started

EXPERIMENT = """
name: shared
variants: {mamba_s: {}, amn: {training: {epochs: 7}}}
training: {epochs: 4}
smoke: {epochs: [2]}
baselines: [context_mean]
"""


def remote(answer: Any) -> Any:
    """A method of an actor that gives this answer; `ray.get` hands it on."""
    return SimpleNamespace(remote=lambda *_, **__: answer)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.ray, "get", lambda answer: answer)
    monkeypatch.setattr(services, "beside_driver", lambda: "beside the driver")


@pytest.mark.parametrize(
    ("index", "kept"), [("{kind: flat}", False), ("{kind: auto}", True), ("{kind: flat, file: x.faiss}", True)]
)
def test_the_evaluator_gets_payload_index_and_queries_and_keeps_what_takes_long_to_build(
    prepared_from: Any, monkeypatch: pytest.MonkeyPatch, index: str, kept: bool
) -> None:
    given: dict[str, Any] = {}

    def start(*arguments: Any, **options: Any) -> str:
        given.update(options, arguments=arguments)
        return "handle"

    def options(**actor: Any) -> Any:
        given.update(actor)
        return SimpleNamespace(remote=start)

    monkeypatch.setattr(services.ray, "remote", lambda kind: SimpleNamespace(options=options))
    prepared: Prepared = prepared_from(f"{EXPERIMENT}index: {index}\n")
    assert services.start_evaluator(prepared, threads=3) == "handle"
    payload, config, queries = given["arguments"]
    assert (payload, config) == (str(prepared.data.payload.path.resolve()), prepared.config.index)
    assert {one.name: len(one) for one in queries} == {"smoke": 20, "final": 200}
    assert given["baselines"] == ("context_mean",)
    assert len(given["training"].val) == len(given["training"].val_novel) == 50
    assert (given["index_dir"] is not None) == kept
    assert (given["name"], given["num_cpus"], given["threads"]) == ("shared/evaluator", 0, 3)
    assert given["scheduling_strategy"] == "beside the driver"
    assert given["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": "1"}}


def test_trials_share_the_windows_of_every_kind(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.ray, "put", lambda value: value)
    prepared: Prepared = prepared_from(EXPERIMENT)
    windows = services.share_windows(prepared)
    assert windows.train is prepared.data.splits.train.rows
    assert [len(part) for part in (windows.val, windows.val_novel, windows.smoke, windows.test)] == [50, 50, 20, 200]


def test_the_stream_holds_the_epochs_of_the_longest_trial(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "build_stream", lambda num, *, seed, epochs: (num, seed, list(epochs)))
    assert services.stream_orders(prepared_from(EXPERIMENT)) == {0: (640, 0, [1, 2, 3, 4, 5, 6, 7])}


def test_the_evaluator_is_asked_last_whether_a_baseline_has_imported_torch(prepared_from: Any) -> None:
    asked: list[str] = []

    def method(name: str) -> Any:
        return SimpleNamespace(remote=lambda *_, **__: asked.append(name))

    evaluator: Any = SimpleNamespace(**{name: method(name) for name in ("ready", "baselines", "reach")})
    started = Started(admission=None, evaluator=evaluator, windows=None, line=None, orders=None)
    services.ask(prepared_from(EXPERIMENT), started)
    assert asked[-1] == "ready"


def measured_by(evaluator: Any, prepared: Prepared, session: Session) -> Any:
    started = Started(admission=None, evaluator=evaluator, windows=None, line=None, orders=None)
    return services.measure(prepared, services.ask(prepared, started), session)


def test_the_configured_baselines_and_the_oracle_are_measured_and_shown(prepared_from: Any) -> None:
    ready = {"index": {"kind": "flat"}, "torch_imported": False, "index_builds": 1, "build_s": 0.5}
    answers = {name: {"metrics": {"novel.r@5": share}} for name, share in (("last_vector", 0.2), ("context_mean", 0.1))}
    evaluator = SimpleNamespace(ready=remote(ready), baselines=remote(answers), reach=remote({"r@5": 0.6}))
    session = Session(stream=io.StringIO())
    measured = measured_by(evaluator, prepared_from(EXPERIMENT), session)
    assert (measured.index, measured.oracle) == (ready, {"r@5": 0.6})
    assert measured.baselines == {"context_mean": {"novel.r@5": 0.1}}
    assert session.timeline.facts == {"index_builds": 1, "index_build_s": 0.5}
    assert session.stream.getvalue() == "index     flat, 1,200 chunks; baselines' novel R@5: context_mean 10.0 %\n"


def test_an_evaluator_that_imported_torch_is_refused(prepared_from: Any) -> None:
    ready = {"index": {"kind": "flat"}, "torch_imported": True, "index_builds": 1, "build_s": 0.5}
    prepared = prepared_from(EXPERIMENT.replace("[context_mean]", '[context_mean, "others:predict"]'))
    with pytest.raises(UserError, match=r"must not share a process with FAISS, got one that does among others:predict"):
        measured_by(
            SimpleNamespace(ready=remote(ready), baselines=remote({}), reach=remote({})),
            prepared,
            Session(stream=io.StringIO()),
        )


@pytest.mark.parametrize(
    ("gate", "timed"),
    [
        ("p95_ms <= 2.0", 0),
        ("novel.r@5 >= baseline.context_mean", 0),
        ("p95_ms <= 1.5 * baseline.context_mean", 300),
    ],
)
def test_baselines_are_timed_where_a_smoke_gate_names_their_latency(prepared_from: Any, gate: str, timed: int) -> None:
    asked: dict[str, Any] = {}
    evaluator: Any = SimpleNamespace(
        ready=remote({}),
        baselines=SimpleNamespace(remote=lambda query_set, **options: asked.update(options)),
        reach=remote({}),
    )
    experiment = EXPERIMENT.replace("{epochs: [2]}", "{epochs: [2], latency_queries: 300}")
    prepared = prepared_from(f"{experiment}gates: {{smoke: [{{epoch: 2, prune_unless: ['{gate}']}}]}}\n")
    services.ask(prepared, Started(admission=None, evaluator=evaluator, windows=None, line=None, orders=None))
    assert asked == {"latency_queries": timed, "time_predictions": False}
