"""The whole program as a user types it: real Ray, real trials, real pruning, on a payload of 1,200 chunks.

Each launch costs a Ray start and some torch imports, so the launches are few and many tests read one run folder.
"""

import hashlib
import itertools
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.config import DataConfig
from data.io import read_json, read_json_lines
from data.prepare import prepare_data
from data.windows.stream import epoch_order, order_digest
from evaluation.queries import load_queries
from evaluation.results import load_arrays
from evaluation.statistics.outcomes import COMPARED_METRICS, Outcomes, mean
from orchestrator.command import main
from tests.benchmarks.bare_loop import run_bare
from tests.orchestrator.launches import (
    DIVERGING,
    LEARNER_ALONE,
    NO_DROPOUT,
    REPOSITORY,
    TIMEOUT_S,
    Watched,
    arguments,
    command,
    figures,
    predictions,
    records,
    sets,
)

pytestmark = pytest.mark.ray

PLAIN = (".json", ".jsonl", ".npy", ".pt")


@pytest.fixture(scope="module")
def run(whole_run: Path) -> Path:
    return whole_run


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


def test_the_variant_whose_weights_overflow_is_named_with_the_value(rows):
    assert rows["diverging"]["status"] == "DIVERGED"
    assert "nan" in rows["diverging"]["reason"] or "inf" in rows["diverging"]["reason"]


def test_a_trials_folder_holds_what_it_reported_and_nothing_half_written(run):
    trained = {"metrics.jsonl", "best.pt", "last.pt", "last.prev.pt", "smoke_epoch2.json"}
    evaluated = {"final.json", "predictions.npy", "predicted.json", "ranks.npy", "cosine.npy", "latency_ms.npy"}
    files = {name: {path.name for path in (run / "variants" / name).iterdir()} for name in ("learner", "frozen")}
    assert files["frozen"] == trained
    assert files["learner"] >= trained | evaluated
    assert not [name for name in files["learner"] if name.startswith(".") or not name.endswith(PLAIN)]


def test_the_run_is_the_bare_loop_to_the_last_digit(run, bare):
    for name, epochs in (("learner", 4), ("frozen", 2), ("amn", 5)):  # amn begins with epoch 0
        assert figures(records(run, name)) == figures(bare[name]["records"][:epochs]), name
    for name in ("learner", "amn"):
        np.testing.assert_array_equal(predictions(run, name), bare[name]["predictions"])


def test_the_next_trial_starts_after_a_slot_is_free_and_no_placement_group_is_left(timeline):
    first_steps = sorted(trial["first_step_s"] for trial in timeline["trials"].values())
    ends = sorted(trial["last_report_s"] for trial in timeline["trials"].values())
    # At most two slots for four trials: each later one begins after an earlier one's last report.
    waited = first_steps[timeline["slots"] :]
    assert len(timeline["gaps_s"]) == len(waited) == 4 - timeline["slots"] >= 1
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
    assert results["orders"] == {"trials": 3, "epochs": 4, "differing": []}  # diverging has no whole epoch


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
    assert len(epochs) == sum(len(records(run, name)) for name in ("learner", "frozen", "diverging", "amn"))
    assert len(lines) - len(epochs) <= 60
    assert not [line for line in lines if "pid=" in line or "WARNING" in line]
    assert (run / "stderr.txt").read_text() == ""


def test_a_complete_run_prints_its_table_again_and_trains_nothing(run, rotation, capfd):
    before = (run / "results.json").stat().st_mtime_ns
    assert main(arguments(rotation, run, *sets(NO_DROPOUT, DIVERGING))) == 0
    shown = capfd.readouterr().out
    assert "learner" in shown
    assert "dashboard" not in shown
    assert (run / "results.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_with_the_difference(run, rotation, capfd):
    assert main(arguments(rotation, run, *sets(NO_DROPOUT, DIVERGING, "training.epochs=5"))) == 2
    complaint = capfd.readouterr().err
    assert "training.epochs: 4 -> 5" in complaint
    assert len(complaint.splitlines()) == 1


HIT = ("training.epochs=40", "training.early_stopping=null", "smoke.epochs=[2]")
Begin = Callable[[], Watched]


@pytest.fixture(scope="module")
def hit_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hit") / "run"


@pytest.fixture(scope="module")
def begin(rotation: Path, hit_run: Path) -> Begin:
    """Return what launches the run that is hit, or goes on with it, each time with a log of its own."""
    logs = (hit_run.with_name(f"log{number}") for number in itertools.count(1))
    return lambda: Watched(rotation, hit_run, next(logs), "--only", "learner", *sets(*HIT))


@pytest.fixture(scope="module")
def first(begin: Begin) -> Iterator[Watched]:
    """Yield its first launch, which is under way."""
    launched = begin()
    launched.wait_for_epochs(2)
    yield launched
    launched.launch.kill()
    launched.launch.wait()


def test_a_local_cluster_listens_on_this_machine_alone(first: Watched) -> None:
    doors = first.doors()
    assert {"gcs_server", "raylet"} <= {process for process, _ in doors}
    assert {address for _, address in doors} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_jobs_page_of_rays_dashboard_names_the_experiment(first: Watched) -> None:
    url, token = re.findall(r"dashboard (\S+)  \(its token: (.*)\)", first.told())[0]
    asked = urllib.request.Request(
        f"{url}/api/jobs/", headers={"Authorization": f"Bearer {Path(token).read_text().strip()}"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        (job,) = json.load(answer)
    assert job["metadata"]["experiment"] == "rotation"


def test_a_run_that_is_hit_again_and_again_ends_as_if_it_never_was_and_leaves_no_process(
    first: Watched, begin: Begin, hit_run: Path, rotation: Path
) -> None:
    assert first.kill("ray::ImplicitFunc")  # Tune's actor, in which the trial runs
    first.wait_for_line("learner: started again after epoch")
    first.wait_for_epochs(2)
    first.launch.kill()
    first.code()

    interrupted = begin()
    interrupted.wait_for_epochs(2)
    interrupted.launch.send_signal(signal.SIGINT)
    assert interrupted.code() == 130
    assert "interrupted" in interrupted.told()
    assert len(records(hit_run, "learner")) < 40
    assert not (hit_run / "results.json").exists()

    last = begin()
    last.wait_for_epochs(2)
    assert last.kill("ray::RemoteEvaluator")
    assert last.code() == 0, last.told()
    bare = run_bare(str(rotation), (NO_DROPOUT, *LEARNER_ALONE, *HIT), slots=1)["learner"]
    assert figures(records(hit_run, "learner")) == figures(bare["records"])
    np.testing.assert_array_equal(predictions(hit_run, "learner"), bare["predictions"])


OTHERS = """
import numpy as np

def predict(context):
    whole = context[:, -1] + 0.5 * context[:, -2]
    return whole / np.linalg.norm(whole, axis=-1, keepdims=True)

def halves(ranks):
    return np.where(ranks > 0, 0.5 ** np.maximum(ranks - 1.0, 0.0), 0.0)
"""
SEEDS = (3, 4)  # the first is that of the whole run
SEARCH = "search={samples: 2, halving: [1], space: {training.optimizer.lr: [5.0e-3, 1.0e-6]}}"


def typed(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.fixture(scope="module")
def at_once(rotation: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the run folder and the command of one launch with all that a person may add.

    Seeds, a search, the README's own model beside one of ours, a reranker, a baseline and a metric of somebody else.
    """
    folder = tmp_path_factory.mktemp("at_once")
    (folder / "mine.py").write_text((REPOSITORY / "README.md").read_text().split("```python\n")[1].split("```")[0])
    (folder / "others.py").write_text(OTHERS)
    changed = ['variants.gru={"model": "mine:Gru", "hidden": 16}', 'baselines=[last_vector, "others:predict"]']
    changed += ['metrics=["others:halves"]', "gates.smoke=[]", 'gates.success_if=["novel.halves >= baseline.predict"]']
    changed += ["rerank={}", f"seeds={[*SEEDS]}", SEARCH, NO_DROPOUT]
    made = command(rotation, folder / "run", "--only", "gru,learner", *sets(*changed))
    done = typed(folder, *made)
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder / "run", made


@pytest.fixture(scope="module")
def rows_at_once(at_once: tuple[Path, list[str]]) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in read_json(at_once[0] / "results.json")["rows"]}


def test_the_readmes_own_model_runs_reranked_beside_a_baseline_and_a_metric_of_somebody_else(at_once, rows_at_once):
    (run, _), rows = at_once, rows_at_once
    assert sorted(rows) == ["gru", "last_vector", "learner", "predict", "prior-only"]
    # Two layers of 16 x 16 with a bias, and three gates of two 16 x 16 matrices with two biases.
    assert rows["gru"]["params"] == 16 * 16 + 16 + 3 * (2 * 16 * 16 + 2 * 16)
    ranks = np.load(run / "variants" / "predict" / "ranks.npy")
    assert rows["predict"]["halves"] == pytest.approx(np.where(ranks > 0, 0.5 ** np.maximum(ranks - 1.0, 0), 0).mean())
    assert rows["gru"]["gates"][0]["limit"] == pytest.approx(rows["predict"]["novel.halves"])
    # The chunk after the context stands first, since the reranker knows the corpus' order: nearest vectors do not.
    smoke = read_json(run / "variants" / rows["learner"]["trial"] / "smoke_epoch2.json")["metrics"]
    assert min(rows["learner"]["r@1"], smoke["r@1"]) > 0.9
    assert read_json(run / "results.json")["protocol"]["reranked"]
    assert "Results are reranked" in (run.parent / "stdout.txt").read_text().replace("\n", " ")


def test_a_checkpoint_of_somebody_elses_model_is_judged_once_it_is_trusted(at_once, rows_at_once, tmp_path):
    trial, told = at_once[0] / "variants" / rows_at_once["gru"]["trial"], tmp_path / "told.json"
    tool = [sys.executable, "-m", "evaluation.checkpoint", "--checkpoint", str(trial / "best.pt")]
    refused = typed(at_once[0].parent, *tool)
    assert refused.stderr.startswith(
        "gate: expected a metric or baseline of this project, got halves, which the run imp"
    )
    trust = [part for path in ("mine:Gru", "others:halves", "others:predict") for part in ("--trust", path)]
    typed(at_once[0].parent, *tool, "--out", str(told), *trust)
    found, expected = read_json(told)["metrics"], read_json(trial / "final.json")["metrics"]
    for name in ("cosine", "r@1", "r@5", "contain@50", "novel.r@5", "novel.halves"):
        assert found[name] == pytest.approx(expected[name]), name


def test_a_run_goes_on_only_with_the_model_it_began_with(at_once, tmp_path):
    run, made = at_once
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    (moved / "results.json").unlink()
    for name in ("mine.py", "others.py"):
        shutil.copy(run.parent / name, tmp_path)
    (tmp_path / "mine.py").write_text("# changed\n" + (tmp_path / "mine.py").read_text())
    again = typed(tmp_path, *(str(moved) if part == str(run) else part for part in made))
    assert (again.returncode, "expected the run's own imported (sha256" in again.stderr) == (2, True)


def test_a_row_of_two_seeds_is_the_mean_of_trials_that_are_each_like_a_run_of_their_own(run, at_once, rows_at_once):
    folder, row = at_once[0], rows_at_once["learner"]
    own, other = (f"learner.1@{seed}" for seed in SEEDS)
    assert figures(records(folder, own)) == figures(records(run, "learner"))
    assert figures(records(folder, other)) != figures(records(run, "learner"))
    np.testing.assert_array_equal(predictions(folder, own), predictions(run, "learner"))
    assert [one["seed"] for one in row["seeds"]] == [*SEEDS]
    cosines = [read_json(folder / "variants" / trial / "final.json")["metrics"]["cosine"] for trial in (own, other)]
    assert cosines[0] != cosines[1] and row["cosine"] == pytest.approx(sum(cosines) / 2)
    # The weights in best/ are those of one seed, and the card tells of them.
    best, winner = folder / "best", rows_at_once[read_json(folder / "results.json")["best"]]
    stands = next(one for one in winner["seeds"] if one["trial"] == winner["trial"])
    assert (best / "best.pt").read_bytes() == (folder / "variants" / stands["trial"] / "best.pt").read_bytes()
    card = (best / "model_card.md").read_text()
    assert f"- seed: {stands['seed']}" in card
    assert re.search(rf"\| novel\.r@5 +\| {100 * stands['novel.r@5']:.1f} %", card)
    assert "by seed" in (folder.parent / "stdout.txt").read_text()


def test_a_search_tries_the_same_draws_halves_them_and_chooses_one_for_all_seeds(at_once, rows_at_once):
    folder, row = at_once[0], rows_at_once["learner"]
    told = {one["trial"]: (one["status"], one["epochs"]) for one in row["search"]}
    assert told == {
        **{f"learner.1@{seed}": ("FINISHED", 4) for seed in SEEDS},
        **{f"learner.2@{seed}": ("HALVED", 1) for seed in SEEDS},
    }
    assert row["trial"] in {f"learner.1@{seed}" for seed in SEEDS}
    # The epochs of both settings under both seeds, 2 * (4 + 1), each of as many windows.
    assert row["windows_seen"] == 10 * records(folder, row["trial"])[0]["windows_seen"]
    assert "chosen" in (folder.parent / "stdout.txt").read_text()
