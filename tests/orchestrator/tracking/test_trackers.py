"""What other programs get of a run: everything that a person would plot, nothing internal, and no harm to the run."""

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data.io import write_text
from evaluation.ending import Ending
from orchestrator.config.sections import TrackingConfig
from orchestrator.gates import TrialDecision, ended
from orchestrator.state import Prepared
from orchestrator.tracking.gauges import Gauges
from orchestrator.tracking.mlflow import MLflow
from orchestrator.tracking.numbers import plain_name, plotted
from orchestrator.tracking.tensorboard import TensorBoard
from orchestrator.tracking.trackers import Tracking, check_tracking, make_tracking
from orchestrator.tracking.wandb import WeightsAndBiases
from tests.servers import served

MLFLOW_PROGRAM = os.environ.get("MLFLOW")  # its server wants other versions than the pinned ones: its own environment
EXPERIMENT = "name: tracked\nseed: 7\nvariants: {mamba_s: {d_model: 64}, amn: {}}\n"
RECORD = {
    "epoch": 2,
    "steps": 20,
    "loss": 0.5,
    "val_soft_r@5": 0.3,
    "precision": "float32",
    "windows_seen": 640,
    "started_at": 1.0,
    "seconds": {"step": 4.0},
    "steps_per_second": 2.5,
    "smoke": {"novel.r@5": 0.2, "p95_ms": 0.7},
}
FAILED_GATE = TrialDecision(
    epoch=2,
    rule="novel.r@5 >= 0.3",
    value=0.2,
    limit=0.3,
    passed=False,
    action=Ending.PRUNED,
    reason="novel.r@5 0.2 (limit >= 0.3, failed)",
)
RESULTS = {
    "best": "mamba_s",
    "rows": [
        {"variant": "mamba_s", "trial": "mamba_s", "evaluated_on": "final", "best_epoch": 1, "novel.r@5": 0.25},
        {"variant": "last_vector", "evaluated_on": "final", "novel.r@5": 0.1},
    ],
}


class Recorder:
    """A tracker that writes down what it is told."""

    def __init__(self, fails: bool = False) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._fails = fails

    def begin(self, trial: str) -> None:
        if self._fails:
            raise ConnectionError("nobody listens")
        self.told.append(("begin", trial))

    def numbers(self, trial: str, epoch: int, metrics: Any) -> None:
        self.told.append(("numbers", trial, epoch, dict(metrics)))

    def end(self, trial: str, ending: Ending, reason: str) -> None:
        self.told.append(("end", trial, ending, reason))

    def finish(self, results: Any, run: Path) -> None:
        self.told.append(("finish", results["best"]))


def test_an_epochs_losses_scores_smoke_metrics_and_seconds_are_plotted_and_nothing_internal() -> None:
    assert plotted(RECORD) == {
        "loss": 0.5,
        "val_soft_r@5": 0.3,
        "windows_seen": 640,
        "steps_per_second": 2.5,
        "smoke/novel.r@5": 0.2,
        "smoke/p95_ms": 0.7,
        "seconds/step": 4.0,
    }


def test_a_tracker_hears_a_trials_begin_epochs_margins_and_end_in_their_order(tmp_path: Path) -> None:
    recorder, said = Recorder(), []
    tracking = Tracking([recorder], said.append)
    tracking.epoch("mamba_s", RECORD)
    tracking.decided("mamba_s", FAILED_GATE)
    tracking.finish(RESULTS, tmp_path)
    assert recorder.told == [
        ("begin", "mamba_s"),
        ("numbers", "mamba_s", 2, plotted(RECORD)),
        ("numbers", "mamba_s", 2, {"gate_margin/novel.r@5": pytest.approx(-0.1)}),
        ("end", "mamba_s", Ending.PRUNED, "novel.r@5 0.2 (limit >= 0.3, failed)"),
        ("finish", "mamba_s"),
    ]
    assert said == []


def test_a_tracker_that_fails_is_told_about_once_and_takes_nothing_from_the_others(tmp_path: Path) -> None:
    said: list[str] = []
    healthy = Recorder()
    tracking = Tracking([Recorder(fails=True), healthy], said.append)
    for name in ("mamba_s", "amn"):
        tracking.epoch(name, RECORD)
    tracking.finish(RESULTS, tmp_path)
    assert said == ["warning: tracking: ConnectionError: nobody listens; the run goes on"]
    assert [one[:2] for one in healthy.told if one[0] == "begin"] == [("begin", "mamba_s"), ("begin", "amn")]


def test_a_slow_tracker_delays_nobody() -> None:
    slow = Recorder()
    slow.begin = lambda trial: time.sleep(5)  # type: ignore[method-assign]
    started = time.monotonic()
    Tracking([slow], print).epoch("mamba_s", RECORD)
    assert time.monotonic() - started < 1.0


def test_tensorboard_holds_scalars_settings_and_the_end(prepared_from: Any, tmp_path: Path) -> None:
    prepared: Prepared = prepared_from(EXPERIMENT)
    board = TensorBoard(tmp_path, prepared.config)
    written: list[tuple[Any, ...]] = []
    board._make = lambda trial: SimpleNamespace(
        add_scalar=lambda *told: written.append(told),
        add_text=lambda name, text: written.append((name, text)),
        flush=lambda: None,
        close=lambda: None,
    )
    tracking = Tracking([board], print)
    tracking.epoch("mamba_s", RECORD)
    tracking.decided("mamba_s", ended(Ending.FINISHED, 2, "epoch == 2", "ran all its epochs"))
    tracking.finish(RESULTS, tmp_path)
    assert written[0][0] == "configuration" and "variant.d_model: 64" in written[0][1]
    assert ("smoke/novel.r_at_5", 0.2, 2) in written
    assert ("ending", "FINISHED: ran all its epochs") in written
    assert ("final/novel.r_at_5", 0.25, 1) in written


def test_tensorboards_files_are_read_by_its_own_reader(prepared_from: Any, tmp_path: Path) -> None:
    tracking = Tracking([TensorBoard(tmp_path, prepared_from(EXPERIMENT).config)], print)
    tracking.epoch("amn", RECORD)
    tracking.finish({"best": None, "rows": []}, tmp_path)
    (file,) = (tmp_path / "tensorboard" / "amn").iterdir()
    content = file.read_bytes()
    assert b"smoke/novel.r_at_5" in content and b"configuration" in content and b"started_at" not in content


def end_one_trial(tracking: Tracking, run: Path) -> None:
    """Let a pruned trial and its run be tracked to the end."""
    for name in ("comparison.md", "report.html", "best/best.pt"):
        write_text(run / name, name)
    tracking.epoch("mamba_s", RECORD)
    tracking.decided("mamba_s", FAILED_GATE)
    tracking.finish(RESULTS, run)


class Client:
    """Stands in for MLflow's client."""

    def __init__(self, tracking_uri: str) -> None:
        self.uri, self.calls = tracking_uri, []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            found = {"get_experiment_by_name": None, "create_experiment": "e1"}
            return found.get(name, SimpleNamespace(info=SimpleNamespace(run_id="r1")))

        return call

    def named(self, name: str) -> list[tuple[Any, Any]]:
        return [(arguments, options) for called, arguments, options in self.calls if called == name]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, prepared_from: Any, tmp_path: Path) -> Client:
    """The calls that one pruned trial and the end of its run make."""

    def entity(*values: Any) -> tuple[Any, ...]:
        return values

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Metric=entity, Param=entity))
    made = MLflow("http://127.0.0.1:5000", prepared_from(EXPERIMENT).config, {"git_commit": "abc"})
    end_one_trial(Tracking([made], print), tmp_path)
    return made._client


def test_mlflow_gets_settings_tags_metrics_status_and_files(client: Client) -> None:
    assert client.uri == "http://127.0.0.1:5000"
    ((arguments, options),) = client.named("create_run")
    assert arguments == ("e1",)
    assert options["tags"] == {"git_commit": "abc", "variant": "mamba_s", "seed": "7", "mlflow.runName": "mamba_s"}
    batches = [options for _, options in client.named("log_batch")]
    assert ("variant.d_model", "64") in batches[0]["params"]
    logged = {metric[0]: (metric[1], metric[3]) for batch in batches[1:] for metric in batch["metrics"]}
    assert logged["smoke/novel.r_at_5"] == (0.2, 2)
    assert logged["gate_margin/novel.r_at_5"] == (pytest.approx(-0.1), 2)
    assert logged["final/novel.r_at_5"] == (0.25, 1)
    assert (("r1", "ending", "PRUNED"), {}) in client.named("set_tag")
    assert client.named("set_terminated") == [(("r1", "KILLED"), {})]
    sent = [Path(arguments[1]).name for arguments, _ in client.named("log_artifact")]
    assert sent == ["comparison.md", "report.html", "best.pt"]


@pytest.mark.skipif(
    find_spec("mlflow") is None or MLFLOW_PROGRAM is None, reason="a real MLflow server: make test-mlflow"
)
def test_an_mlflow_server_on_sqlite_keeps_all_that(prepared_from: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    places = (f"--backend-store-uri=sqlite:///{tmp_path}/runs.db", f"--artifacts-destination={tmp_path}/artifacts")
    with served(str(MLFLOW_PROGRAM), "server", "--port={port}", "--workers=1", *places, patience_s=300.0) as port:
        address = f"http://127.0.0.1:{port}"
        end_one_trial(
            Tracking([MLflow(address, prepared_from(EXPERIMENT).config, {"git_commit": "abc"})], print), tmp_path
        )
        kept = MlflowClient(tracking_uri=address)
        (run,) = kept.search_runs([kept.get_experiment_by_name("tracked").experiment_id])
        files = {one.path for one in kept.list_artifacts(run.info.run_id)}
    assert run.info.status == "KILLED"
    assert run.data.params["variant.d_model"] == "64"
    tags = {name: run.data.tags[name] for name in ("git_commit", "variant", "seed", "ending", "reason")}
    told = {"ending": "PRUNED", "reason": FAILED_GATE.reason}
    assert tags == {"git_commit": "abc", "variant": "mamba_s", "seed": "7", **told}
    assert (run.data.metrics["smoke/novel.r_at_5"], run.data.metrics["final/novel.r_at_5"]) == (0.2, 0.25)
    assert run.data.metrics["gate_margin/novel.r_at_5"] == pytest.approx(-0.1)
    assert not [name for name in run.data.metrics if "started_at" in name]
    assert files == {"comparison.md", "report.html", "best.pt"}


class WandbRun:
    """Stands in for a run of Weights & Biases."""

    def __init__(self, **options: Any) -> None:
        self.options, self.logged, self.saved, self.summary = options, [], [], {}
        self.closed: int | None = None

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "epoch")

    def log(self, numbers: dict[str, Any]) -> None:
        self.logged.append(numbers)

    def save(self, path: str, base_path: str, policy: str) -> None:
        self.saved.append(str(Path(path).relative_to(base_path)))

    def finish(self, exit_code: int) -> None:
        self.closed = exit_code


def test_wandb_gets_settings_metrics_ending_and_files(
    monkeypatch: pytest.MonkeyPatch, prepared_from: Any, tmp_path: Path
) -> None:
    runs: list[WandbRun] = []

    def init(**options: Any) -> WandbRun:
        runs.append(WandbRun(**options))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict))
    made = WeightsAndBiases("offline", tmp_path, prepared_from(EXPERIMENT).config, {"git_commit": "abc"})
    end_one_trial(Tracking([made], print), tmp_path)
    (run,) = runs
    options = {key: run.options[key] for key in ("project", "name", "dir", "mode")}
    assert options == {"project": "tracked", "name": "mamba_s", "dir": str(tmp_path), "mode": "offline"}
    assert run.options["config"]["variant.d_model"] == 64
    assert {key: run.options["config"][key] for key in ("git_commit", "variant", "seed")} == {
        "git_commit": "abc",
        "variant": "mamba_s",
        "seed": "7",
    }
    assert [numbers["epoch"] for numbers in run.logged] == [2, 2, 1]
    assert (run.logged[0]["smoke/novel.r_at_5"], run.logged[2]["final/novel.r_at_5"]) == (0.2, 0.25)
    assert run.summary == {"ending": "PRUNED", "reason": FAILED_GATE.reason, "verdict": ""}
    assert run.saved == ["comparison.md", "report.html", "best/best.pt"]
    assert run.closed == 0


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_itself_keeps_all_that_in_the_run_folder(prepared_from: Any, tmp_path: Path) -> None:
    made = WeightsAndBiases("offline", tmp_path, prepared_from(EXPERIMENT).config, {"git_commit": "abc"})
    end_one_trial(Tracking([made], print), tmp_path)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for text in (b"smoke/novel.r_at_5", b"final/novel.r_at_5", b"variant.d_model", b"mamba_s", b"PRUNED", b"best.pt"):
        assert text in content
    assert b"started_at" not in content


def test_a_metrics_name_is_written_in_letters_that_every_tracker_has() -> None:
    assert plain_name("smoke/exclude_context.r@5") == "smoke/exclude_context.r_at_5"


def test_nothing_is_tracked_elsewhere_by_default(prepared_from: Any, tmp_path: Path) -> None:
    tracking = make_tracking(prepared_from(EXPERIMENT).config, tmp_path, {}, print)
    assert tracking._trackers == [] and not tracking._thread.is_alive()


@pytest.mark.parametrize(
    ("package", "tracking"),
    [("mlflow", TrackingConfig(mlflow="http://127.0.0.1:5000")), ("wandb", TrackingConfig(wandb="offline"))],
)
def test_a_tracker_without_its_package_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, package: str, tracking: TrackingConfig
) -> None:
    monkeypatch.setattr("orchestrator.tracking.trackers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"^tracking\.{package}: expected the package {package}"):
        check_tracking(tracking)


def test_gauges_carry_experiment_variant_seed_and_trial(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, tuple[float, dict[str, str]]] = {}

    class Gauge:
        def __init__(self, name: str, about: str, tag_keys: tuple[str, ...]) -> None:
            self._name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            found[self._name] = (value, tags)

    monkeypatch.setattr("ray.util.metrics.Gauge", Gauge)
    gauges = Gauges(prepared_from(EXPERIMENT).config)
    gauges.epoch("mamba_s", RECORD)
    gauges.decided("mamba_s", FAILED_GATE)
    gauges.decided("mamba_s", ended(Ending.FINISHED, 2, "epoch == 2", "ran all its epochs"))
    tags = {"experiment": "tracked", "variant": "mamba_s", "seed": "7", "trial": "mamba_s"}
    assert found["next_vector_epoch"] == (2.0, tags)
    assert found["next_vector_novel_recall_5"] == (0.2, tags)
    assert found["next_vector_steps_per_second"] == (2.5, tags)
    assert found["next_vector_gate_margin"][0] == pytest.approx(-0.1)
