"""The whole program as a user types it: real Ray, real trials, real pruning, on a payload of 1,200 chunks.

Each launch costs a Ray start and some torch imports, so the launches are few and many tests read one run folder.
"""

import hashlib
import importlib
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from data.config import DataConfig
from data.io import read_json, read_json_lines
from data.payload.store import write_payload
from data.prepare import prepare_data
from data.windows.stream import epoch_order, order_digest
from evaluation.queries import load_queries
from evaluation.results import load_arrays
from evaluation.statistics.outcomes import COMPARED_METRICS, Outcomes, mean
from tests.benchmarks.bare_loop import run_bare
from tests.orchestrator.launches import NO_DROPOUT, REPOSITORY, TIMEOUT_S, command, figures, launch, records

pytestmark = pytest.mark.ray

PLAIN = (".json", ".jsonl", ".npy", ".pt")


def predictions(run: Path, variant: str) -> np.ndarray:
    return np.load(run / "variants" / variant / "predictions.npy")


@pytest.fixture(scope="module")
def run(rotation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = launch(rotation, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    return read_json(run / "results.json")


@pytest.fixture(scope="module")
def timeline(run: Path) -> dict[str, Any]:
    return read_json(run / "timeline.json")


@pytest.fixture(scope="module")
def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in results["rows"]}


def test_the_variant_that_learns_is_the_best_and_beats_the_baseline(results, rows):
    assert (results["best"], results["leader"]) == ("learner", "learner")
    assert rows["learner"]["status"] == "FINISHED"
    assert rows["learner"]["novel.r@5"] > 1.5 * rows["last_vector"]["novel.r@5"]


def test_the_variant_that_cannot_learn_is_pruned_with_rule_and_value(run, rows):
    assert (rows["frozen"]["status"], rows["frozen"]["epochs"]) == ("PRUNED", 2)
    (pruned,) = [line for line in read_json_lines(run / "decisions.jsonl") if line["action"] == "prune"]
    assert (pruned["variant"], pruned["rule"]) == ("frozen", "novel.r@5 >= 1.5 * baseline.last_vector")
    assert pruned["value"] < pruned["limit"]
    smoke = read_json(run / "variants" / "frozen" / "smoke_epoch2.json")
    assert smoke["metrics"]["novel.r@5"] == pruned["value"]
    assert [record["epoch"] for record in records(run, "frozen")] == [1, 2]


def test_a_trials_folder_holds_what_it_reported_and_nothing_half_written(run):
    trained = {"metrics.jsonl", "best.pt", "last.pt", "last.prev.pt", "smoke_epoch2.json"}
    evaluated = {"final.json", "predictions.npy", "predicted.json", "ranks.npy", "cosine.npy", "latency_ms.npy"}
    files = {name: {path.name for path in (run / "variants" / name).iterdir()} for name in ("learner", "frozen")}
    assert files["frozen"] == trained
    assert files["learner"] >= trained | evaluated
    assert not [name for name in files["learner"] if name.startswith(".") or not name.endswith(PLAIN)]


def test_the_run_is_the_bare_loop_to_the_last_digit(run, rotation):
    bare = run_bare(str(rotation), (NO_DROPOUT,))
    for name, epochs in (("learner", 4), ("frozen", 2), ("amn", 5)):  # amn begins with epoch 0
        assert figures(records(run, name)) == figures(bare[name]["records"][:epochs]), name
    for name in ("learner", "amn"):
        np.testing.assert_array_equal(predictions(run, name), bare[name]["predictions"])


def test_the_next_trial_starts_after_a_slot_is_free_and_no_placement_group_is_left(timeline):
    first_steps = sorted(trial["first_step_s"] for trial in timeline["trials"].values())
    ends = sorted(trial["last_report_s"] for trial in timeline["trials"].values())
    # At most two slots for three trials: each later one begins after an earlier one's last report.
    waited = first_steps[timeline["slots"] :]
    assert len(timeline["gaps_s"]) == len(waited) == 3 - timeline["slots"] >= 1
    assert all(first > end for first, end in zip(waited, ends, strict=False))
    assert timeline["placement_groups_left"] == 0


def test_a_trial_of_one_worker_trains_in_its_slots_own_process(run):
    log = (run / "ray.log").read_text()
    assert "TrainController" not in log
    assert "RayTrainWorker" not in log


def test_every_variant_saw_the_windows_in_the_same_order(run, results, rotation_payload, tmp_path):
    data = prepare_data(DataConfig(source="payload", payload=str(rotation_payload)), tmp_path, seed=3)
    expected = [order_digest(epoch_order(len(data.splits.train), 3, epoch)) for epoch in range(1, 5)]
    for variant in ("learner", "frozen", "amn"):
        digests = [record["order_digest"] for record in records(run, variant) if record["epoch"] > 0]
        assert digests == expected[: len(digests)]
    assert results["orders"] == {"trials": 3, "epochs": 4, "differing": []}


def test_the_index_was_built_once(timeline):
    assert timeline["index_builds"] == 1
    assert timeline["index_build_s"] > 0.0


def test_the_phases_account_for_the_whole_wall_time(timeline):
    assert sum(phase["seconds"] for phase in timeline["phases"]) == pytest.approx(timeline["wall_s"], abs=0.05)
    (training,) = [phase["start_s"] for phase in timeline["phases"] if phase["name"] == "training"]
    for trial in timeline["trials"].values():
        assert sum(trial["seconds"].values()) == pytest.approx(trial["ended_s"] - training, rel=0.02)


def test_every_figure_of_a_row_follows_from_the_per_query_files(run, rows, results):
    queries = load_queries(run)
    assert results["protocol"]["n_novel"] == queries.novel.sum()
    for variant in ("learner", "amn", "last_vector", "context_mean"):
        outcomes = Outcomes.of(load_arrays(run / "variants" / variant))
        assert len(outcomes) == len(queries) == rows[variant]["n_queries"]
        for name in COMPARED_METRICS:
            figure = rows[variant][name]  # null where it is not defined
            expected = pytest.approx(mean(name, outcomes, queries.known), nan_ok=True)
            assert (math.nan if figure is None else figure) == expected, name


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
    epochs = [line for line in lines if re.match(r"  \[ *\d+ s\] \w+: epoch \d", line)]
    assert len(epochs) == sum(len(records(run, name)) for name in ("learner", "frozen", "amn"))
    assert len(lines) - len(epochs) <= 60
    assert not [line for line in lines if "pid=" in line or "WARNING" in line]
    assert (run / "stderr.txt").read_text() == ""


def test_a_complete_run_prints_its_table_again_and_trains_nothing(run, rotation):
    before = (run / "results.json").stat().st_mtime_ns
    done = launch(rotation, run)
    assert done.returncode == 0, done.stderr
    assert "learner" in done.stdout
    assert "dashboard" not in done.stdout
    assert (run / "results.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_with_the_difference(run, rotation):
    done = launch(rotation, run, "--set", "training.epochs=5")
    assert done.returncode == 2
    assert "training.epochs: 4 -> 5" in done.stderr
    assert len(done.stderr.splitlines()) == 1


class Launch:
    """A launch that is watched and hurt."""

    def __init__(self, rotation: Path, run: Path, options: list[str], output: IO[str]) -> None:
        self.run, self.output = run, output
        start = command(rotation, run, *options)
        self.process = subprocess.Popen(start, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)

    def wait_for(self, num_epochs: int) -> None:
        """Wait until so many epochs of the trial are written."""
        self._wait(lambda: len(records(self.run, "learner")) >= num_epochs)

    def wait_for_line(self, text: str) -> None:
        self._wait(lambda: text in Path(self.output.name).read_text())

    def _wait(self, condition: Any) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, Path(self.output.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def trial_processes(self) -> list[Any]:
        import ray  # noqa: F401  # brings psutil, which is found only afterwards

        psutil = importlib.import_module("psutil")
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.name().startswith("ray::ImplicitFunc")]  # Tune's actors

    def end_by(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=TIMEOUT_S)


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(rotation, tmp_path):
    sets = (NO_DROPOUT, "training.epochs=40", "training.early_stopping=null", "smoke.epochs=[2]")
    options = ["--only", "learner", *(part for text in sets for part in ("--set", text))]
    run = tmp_path / "run"
    with (tmp_path / "output").open("w") as output:
        first = Launch(rotation, run, options, output)
        first.wait_for(2)
        for process in first.trial_processes():
            process.kill()
        first.wait_for_line("learner: started again after epoch")
        first.wait_for(len(records(run, "learner")) + 2)
        first.end_by(signal.SIGKILL)

        second = Launch(rotation, run, options, output)
        second.wait_for(len(records(run, "learner")) + 2)
        assert second.end_by(signal.SIGINT) == 130
        assert "interrupted" in Path(output.name).read_text()
        assert len(records(run, "learner")) < 40
        assert not (run / "results.json").exists()

        assert Launch(rotation, run, options, output).process.wait(timeout=TIMEOUT_S) == 0
    bare = run_bare(str(rotation), sets)["learner"]
    assert figures(records(run, "learner")) == figures(bare["records"])
    np.testing.assert_array_equal(predictions(run, "learner"), bare["predictions"])


def test_two_workers_train_the_same_model_as_one_and_a_pruned_group_gives_its_slot_back(run, rotation, tmp_path):
    # The more epochs, the earlier it starts: frozen is pruned before learner begins.
    options = ["--set", "variants.frozen.training.epochs=6", "--set", "training.workers=2"]
    two = tmp_path / "two"
    done = launch(rotation, two, "--only", "frozen,learner", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [record["epoch"] for record in records(two, "frozen")] == [1, 2]
    # Without the last figure, a recall: the rank of one target of fifty may change by one.
    both = [np.array(figures(records(folder, "learner")))[:, :-1] for folder in (two, run)]
    np.testing.assert_allclose(*both, rtol=1e-3)
    np.testing.assert_allclose(predictions(two, "learner"), predictions(run, "learner"), atol=1e-2)
    timeline = read_json(two / "timeline.json")
    assert (timeline["slots"], timeline["placement_groups_left"]) == (1, 0)
    assert timeline["trials"]["learner"]["first_step_s"] > timeline["trials"]["frozen"]["last_report_s"]
    assert "TrainController" in (two / "ray.log").read_text()


def test_a_row_of_two_seeds_is_the_mean_of_trials_that_are_each_like_a_run_of_their_own(run, rotation, tmp_path):
    folder, seed = tmp_path / "seeds", read_json(run / "manifest.json")["seed"]
    done = launch(rotation, folder, "--only", "learner,frozen", "--set", f"seeds=[{seed}, {seed + 1}]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert figures(records(folder, f"learner@{seed}")) == figures(records(run, "learner"))
    assert figures(records(folder, f"learner@{seed + 1}")) != figures(records(run, "learner"))
    rows = {row["variant"]: row for row in read_json(folder / "results.json")["rows"]}
    found = {one["seed"]: one["novel.r@5"] for one in rows["learner"]["seeds"]}
    assert found[seed] == next(
        row["novel.r@5"] for row in read_json(run / "results.json")["rows"] if row["variant"] == "learner"
    )
    assert rows["learner"]["novel.r@5"] == pytest.approx(sum(found.values()) / 2)
    assert [one["status"] for one in rows["frozen"]["seeds"]] == ["PRUNED", "PRUNED"]
    # The weights in best/ are those of one seed, and the card tells of them.
    stands = next(one for one in rows["learner"]["seeds"] if one["trial"] == rows["learner"]["trial"])
    best = folder / "best"
    assert (best / "best.pt").read_bytes() == (folder / "variants" / stands["trial"] / "best.pt").read_bytes()
    card = (best / "model_card.md").read_text()
    assert f"- seed: {stands['seed']}" in card
    assert re.search(rf"\| novel\.r@5 +\| {100 * stands['novel.r@5']:.1f} %", card)
    assert "by seed" in done.stdout
    again = launch(rotation, folder, "--only", "learner,frozen", "--set", f"seeds=[{seed}, {seed + 1}]")
    assert (again.returncode, "complete since" in again.stdout) == (0, True)


OTHERS = """
import numpy as np

def predict(context):
    whole = context[:, -1] + 0.5 * context[:, -2]
    return whole / np.linalg.norm(whole, axis=-1, keepdims=True)

def halves(ranks):
    return np.where(ranks > 0, 0.5 ** np.maximum(ranks - 1.0, 0.0), 0.0)
"""


def test_the_readmes_own_model_runs_with_a_baseline_and_a_metric_of_somebody_else(rotation, tmp_path):
    (tmp_path / "mine.py").write_text((REPOSITORY / "README.md").read_text().split("```python\n")[1].split("```")[0])
    (tmp_path / "others.py").write_text(OTHERS)
    sets = ['variants.gru={"model": "mine:Gru", "hidden": 16}', 'baselines=[last_vector, "others:predict"]']
    sets += ['metrics=["others:halves"]', "gates.smoke=[]", 'gates.success_if=["novel.halves >= baseline.predict"]']
    options = ["--only", "gru", *(part for text in sets for part in ("--set", text))]
    made = command(rotation, tmp_path / "run", *options)
    done = subprocess.run(made, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    results = read_json(tmp_path / "run" / "results.json")
    rows = {row["variant"]: row for row in results["rows"]}
    assert list(rows) == ["gru", "last_vector", "predict"]
    # Two layers of 16 x 16 with a bias, and three gates of two 16 x 16 matrices with two biases.
    assert rows["gru"]["params"] == 16 * 16 + 16 + 3 * (2 * 16 * 16 + 2 * 16)
    ranks = np.load(tmp_path / "run" / "variants" / "predict" / "ranks.npy")
    assert rows["predict"]["halves"] == pytest.approx(np.where(ranks > 0, 0.5 ** np.maximum(ranks - 1.0, 0), 0).mean())
    assert rows["gru"]["gates"][0]["limit"] == pytest.approx(rows["predict"]["novel.halves"])
    (tmp_path / "mine.py").write_text("# changed\n" + (tmp_path / "mine.py").read_text())
    (tmp_path / "run" / "results.json").unlink()
    again = subprocess.run(made, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (again.returncode, "expected the run's own imported (sha256" in again.stderr) == (2, True)


def test_a_search_tries_the_same_draws_halves_them_and_its_winner_is_like_a_run_of_its_own(run, rotation, tmp_path):
    folder = tmp_path / "search"
    space = "{training.optimizer.lr: [5.0e-3, 1.0e-6, 2.0e-6, 3.0e-6]}"
    sets = ["gates.smoke=[]", f"search={{samples: 4, halving: [1, 2], space: {space}}}"]
    options = ["--only", "learner", *(part for text in sets for part in ("--set", text))]
    done = launch(rotation, folder, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (row, *_) = read_json(folder / "results.json")["rows"]
    told = [(one["trial"], one["status"], one["epochs"]) for one in row["search"]]
    assert told[0] == ("learner.1", "FINISHED", 4)
    assert sorted(one[1:] for one in told[1:]) == [("HALVED", 1), ("HALVED", 1), ("HALVED", 2)]
    assert (row["trial"], row["status"]) == ("learner.1", "FINISHED")
    # The epochs of all four: 4 + 1 + 1 + 2, each of as many windows.
    assert row["windows_seen"] == 2 * records(folder, "learner.1")[-1]["windows_seen"]
    assert "chosen" in done.stdout
    assert figures(records(folder, "learner.1")) == figures(records(run, "learner"))
    assert row["novel.r@5"] == next(
        one["novel.r@5"] for one in read_json(run / "results.json")["rows"] if one["variant"] == "learner"
    )


def test_without_a_survivor_the_table_is_written_and_says_why(rotation, tmp_path):
    # Each step multiplies the weights by 1 - 10 * 10: they overflow within two epochs.
    optimizer = "{lr: 10.0, weight_decay: 10.0}"
    diverging = f"{{model: mamba_s, d_model: 32, d_state: 16, head_dim: 16, training: {{optimizer: {optimizer}}}}}"
    folder = tmp_path / "none"
    options = ["--set", f"variants.diverging={diverging}", "--only", "frozen,diverging"]
    done = launch(rotation, folder, *options)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "No variant survived" in done.stdout
    rows = {row["variant"]: row for row in read_json(folder / "results.json")["rows"]}
    assert (rows["frozen"]["status"], rows["diverging"]["status"]) == ("PRUNED", "DIVERGED")
    assert "nan" in rows["diverging"]["reason"] or "inf" in rows["diverging"]["reason"]
    assert (folder / "comparison.md").is_file()
    assert not (folder / "best").exists()


def test_with_a_reranker_table_smoke_and_checkpoint_tool_show_reranked_figures(rotation, tmp_path):
    folder, told = tmp_path / "reranked", tmp_path / "told.json"
    options = ["--set", "rerank={}", "--set", "training.epochs=2", "--set", "gates.smoke=[]"]
    done = launch(rotation, folder, "--only", "learner", *options)
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    assert "Results are reranked" in done.stdout.replace("\n", " ")
    results = read_json(folder / "results.json")
    rows = {row["variant"]: row for row in results["rows"]}
    assert results["protocol"]["reranked"]
    # The chunk after the context stands first, since the reranker knows the corpus' order: nearest vectors do not.
    assert rows["learner"]["r@1"] > 0.9
    smoke = read_json(folder / "variants" / "learner" / "smoke_epoch2.json")["metrics"]
    assert smoke["r@1"] > 0.9
    tool = [sys.executable, "-m", "evaluation.checkpoint", "--checkpoint", str(folder / "variants/learner/best.pt")]
    subprocess.run([*tool, "--out", str(told)], cwd=REPOSITORY, capture_output=True, check=False)
    found = read_json(told)["metrics"]
    for name in ("r@1", "r@5", "contain@50", "novel.r@5"):
        assert found[name] == pytest.approx(rows["learner"][name]), name


@pytest.fixture(scope="module")
def boilerplate_payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 articles: nine chunks of one of 12 texts that many articles share, after each three one of their own."""
    rng = np.random.default_rng(11)
    shared, own = rng.standard_normal((12, 3, 3, 16)), rng.standard_normal((160, 4, 1, 16))
    parts = np.concatenate([own[:, :3], shared[rng.integers(12, size=160)]], axis=2)  # (160, 3, 4, 16)
    chunks = np.concatenate([parts.reshape(160, 12, 16), own[:, 3]], axis=1) + 0.5
    vectors = (chunks / np.linalg.norm(chunks, axis=2, keepdims=True)).reshape(-1, 16)
    folder = tmp_path_factory.mktemp("payload") / "boilerplate"
    write_payload(
        folder,
        vectors=vectors.astype(np.float32),
        article_index=np.repeat(np.arange(160, dtype=np.int32), 13),
        chunk_index=np.tile(np.arange(13, dtype=np.int32), 160),
        texts=[f"chunk {number}" for number in range(len(vectors))],
        embedder="boilerplate-16",
    )
    return folder


def test_of_boilerplate_the_look_up_wins_all_nobody_wins_novel_and_nothing_is_ready(
    rotation, boilerplate_payload, tmp_path
):
    options = ["--only", "learner", "--set", f"data.payload={boilerplate_payload}", "--set", "training.epochs=2"]
    options += ["--set", "baselines=[last_vector, ridge, nearest_context]", "--set", "gates.smoke=[]"]
    refused = launch(rotation, tmp_path / "run", *options)
    assert refused.returncode == 2
    assert "test_targets_in_train" in refused.stderr
    done = launch(rotation, tmp_path / "run", *options, "--set", "preflight.waive=[test_targets_in_train, chunk_order]")
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    rows = {row["variant"]: row for row in read_json(tmp_path / "run" / "results.json")["rows"]}
    assert max(rows, key=lambda name: rows[name]["r@5"]) == "nearest_context"
    assert rows["nearest_context"]["copied.r@5"] > 0.95
    assert max(row["novel.r@5"] for row in rows.values()) < 0.1
    assert rows["learner"]["verdict"] != "PRODUCTION READY"
