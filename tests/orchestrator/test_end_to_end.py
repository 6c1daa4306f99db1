"""The whole program as a user types it: real Ray, real trials, real pruning, on a payload of 1,200 chunks.

Each launch costs a Ray start and some torch imports, so the launches are few and many tests read one run folder.
"""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.windows.stream import epoch_order, order_digest
from data.windows.table import load_windows
from evaluation.measures.metrics import summarise

pytestmark = pytest.mark.ray

REPOSITORY = Path(__file__).parents[2]
EXPERIMENT = """
name: rotation
seed: 3
data: {{source: payload, payload: {payload}}}
variants:
  learner: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16}}
  frozen: {{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16, training: {{optimizer: {{lr: 0.0}}}}}}
  amn: {{d_model: 32}}
training:
  epochs: 4
  batch_size: 32
  optimizer: {{lr: 5.0e-3}}
smoke: {{epochs: [2], queries: 40}}
gates:
  smoke: [{{epoch: 2, prune_unless: ["r@5 >= 1.5 * baseline.last_vector"]}}]
index: {{kind: flat}}
resources: {{max_concurrent: 2}}  # fewer slots than variants, on any machine
"""
NO_DROPOUT = ["--set", "variants.learner.dropout=0.0"]


def launch(experiment: Path, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.launch", str(experiment), "--run-dir", str(run), *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def records(run: Path, variant: str) -> list[dict[str, Any]]:
    lines = (run / "variants" / variant / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def losses(run: Path, variant: str) -> list[float]:
    return [record["loss"] for record in records(run, variant)]


@pytest.fixture(scope="module")
def experiment(rotation_payload: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "rotation.yaml"
    path.write_text(EXPERIMENT.format(payload=rotation_payload))
    return path


@pytest.fixture(scope="module")
def run(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = launch(experiment, folder, *NO_DROPOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in results["rows"]}


def test_the_variant_that_learns_is_the_best_and_beats_the_baseline(results, rows):
    assert results["best"] == "learner"
    assert rows["learner"]["status"] == "FINISHED"
    assert rows["learner"]["r@5"] > 1.5 * rows["last_vector"]["r@5"]


def test_the_variant_that_cannot_learn_is_pruned_with_rule_and_value(run, rows):
    assert (rows["frozen"]["status"], rows["frozen"]["epochs"]) == ("PRUNED", 2)
    lines = [json.loads(line) for line in (run / "decisions.jsonl").read_text().splitlines()]
    (pruned,) = [line for line in lines if line["action"] == "prune"]
    assert pruned["variant"] == "frozen"
    assert pruned["rule"] == "r@5 >= 1.5 * baseline.last_vector"
    assert pruned["value"] < pruned["limit"]
    smoke = json.loads((run / "variants" / "frozen" / "smoke_epoch2.json").read_text())
    assert smoke["metrics"]["r@5"] == pruned["value"]


def test_a_pruned_trial_reports_no_epoch_after_its_gate(run):
    assert [record["epoch"] for record in records(run, "frozen")] == [1, 2]


def test_the_next_trial_starts_after_a_slot_is_free_and_no_placement_group_is_left(run):
    timeline = json.loads((run / "timeline.json").read_text())
    trials = timeline["trials"].values()
    first_steps = sorted(trial["first_step_s"] for trial in trials)
    ends = sorted(trial["last_report_s"] for trial in trials)
    # At most two slots for three trials: each later one begins after an earlier one's last report.
    waited = first_steps[timeline["slots"] :]
    assert len(timeline["gaps_s"]) == len(waited) == 3 - timeline["slots"] >= 1
    assert all(0.0 < first - end < 30.0 for first, end in zip(waited, ends, strict=False))
    assert timeline["placement_groups_left"] == 0


def test_every_variant_saw_the_windows_in_the_same_order(run):
    num_windows = len(np.load(run / "windows" / "train_rows.npy"))
    expected = [order_digest(epoch_order(num_windows, 3, epoch)) for epoch in range(1, 5)]
    for variant in ("learner", "frozen", "amn"):
        digests = [record["order_digest"] for record in records(run, variant)]
        assert digests == expected[: len(digests)]


def test_the_index_was_built_once(run):
    timeline = json.loads((run / "timeline.json").read_text())
    assert timeline["index_builds"] == 1
    assert timeline["index_build_s"] > 0.0


def test_the_phases_account_for_the_whole_wall_time(run):
    timeline = json.loads((run / "timeline.json").read_text())
    assert sum(phase["seconds"] for phase in timeline["phases"]) == pytest.approx(timeline["wall_s"], abs=0.05)
    (training,) = [phase["start_s"] for phase in timeline["phases"] if phase["name"] == "training"]
    for trial in timeline["trials"].values():
        assert sum(trial["seconds"].values()) == pytest.approx(trial["ended_s"] - training, rel=0.02)


def test_every_figure_of_a_row_follows_from_the_per_query_files(run, rows):
    for variant in ("learner", "amn", "last_vector", "context_mean"):
        folder = run / "variants" / variant
        ranks, cosine = np.load(folder / "ranks.npy"), np.load(folder / "cosine.npy")
        assert ranks.dtype == np.int32
        for name, value in summarise(ranks, np.load(folder / "ranks_pool.npy"), cosine).items():
            assert rows[variant][name] == (None if math.isnan(value) else pytest.approx(value))
        assert rows[variant]["n_queries"] == len(ranks)


def test_a_row_has_every_key_that_others_read(rows):
    keys = (
        "variant kind status reason epochs params cosine r@1 r@5 r@10 contain@20 contain@50 eff@5 mrr@10 p50_ms p95_ms "
        "predict_p95_ms train_s windows_seen n_queries ci gates verdict"
    )
    assert set(keys.split()) <= set(rows["learner"])


def test_best_holds_the_winner_with_right_checksums_and_loads_in_a_clean_process(run):
    best = run / "best"
    listed = dict(reversed(line.split("  ")) for line in (best / "SHA256SUMS").read_text().splitlines())
    assert listed["best.pt"] == hashlib.sha256((best / "best.pt").read_bytes()).hexdigest()
    code = "import sys, models.training.checkpoint as c; m = c.load_model(sys.argv[1]); print(m.spec.name, m.dim)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(best / "best.pt")], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["mamba_s", "16"]


def test_a_run_without_a_terminal_prints_few_lines_and_none_of_rays(run):
    lines = (run / "stdout.txt").read_text().splitlines()
    assert len(lines) <= 60
    assert not [line for line in lines if "pid=" in line or "WARNING" in line]
    assert (run / "stderr.txt").read_text() == ""
    assert "RayTrainWorker" in (run / "ray.log").read_text()


def test_a_complete_run_prints_its_table_again_and_trains_nothing(run, experiment):
    before = (run / "results.json").stat().st_mtime_ns
    done = launch(experiment, run, *NO_DROPOUT)
    assert done.returncode == 0, done.stderr
    assert "learner" in done.stdout
    assert "dashboard" not in done.stdout
    assert (run / "results.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_with_the_difference(run, experiment):
    done = launch(experiment, run, *NO_DROPOUT, "--set", "training.epochs=5")
    assert done.returncode == 2
    assert "training.epochs: 4 -> 5" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupted_run_goes_on_and_ends_as_if_never_interrupted(run, experiment, tmp_path):
    options = [*NO_DROPOUT, "--only", "learner", "--set", "training.epochs=4"]
    folder = tmp_path / "interrupted"
    command = [sys.executable, "-m", "orchestrator.launch", str(experiment), "--run-dir", str(folder), *options]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    metrics = folder / "variants" / "learner" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert not (folder / "results.json").exists()
    before = len(records(folder, "learner"))
    assert before >= 1

    done = launch(experiment, folder, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(folder, "learner") == losses(run, "learner")
    ranks = [np.load(path / "variants" / "learner" / "ranks.npy") for path in (folder, run)]
    np.testing.assert_array_equal(*ranks)


def test_two_workers_train_the_same_model_as_one(run, experiment, tmp_path):
    done = launch(experiment, tmp_path / "two", *NO_DROPOUT, "--only", "learner", "--set", "training.workers=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(tmp_path / "two", "learner") == pytest.approx(losses(run, "learner"), rel=1e-3)


def test_without_a_survivor_the_table_is_written_and_says_why(experiment, tmp_path):
    # Each step multiplies the weights by 1 - 10 * 10: they overflow within two epochs.
    optimizer = "{lr: 10.0, weight_decay: 10.0}"
    diverging = f"{{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16, training: {{optimizer: {optimizer}}}}}"
    folder = tmp_path / "none"
    options = ["--set", f"variants.diverging={diverging}", "--only", "frozen,diverging"]
    done = launch(experiment, folder, *options)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "No variant survived" in done.stdout
    rows = {row["variant"]: row for row in json.loads((folder / "results.json").read_text())["rows"]}
    assert (rows["frozen"]["status"], rows["diverging"]["status"]) == ("PRUNED", "DIVERGED")
    assert "nan" in rows["diverging"]["reason"] or "inf" in rows["diverging"]["reason"]
    assert (folder / "comparison.md").is_file()
    assert not (folder / "best").exists()


def test_the_windows_of_a_run_lie_in_its_folder(run):
    stored = json.loads((run / "manifest.json").read_text())
    splits = load_windows(run / "windows", payload_sha256=stored["data_sha256"])
    assert (
        len(splits.test)
        == json.loads((run / "variants" / "learner" / "final.json").read_text())["metrics"]["n_queries"]
    )
