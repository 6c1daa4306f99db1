"""Two runs on the same queries, or a clear refusal."""

import json
import shutil

import numpy as np
import pytest

from evaluation.compare import main


@pytest.fixture
def other(run_folder, tmp_path):
    return shutil.copytree(run_folder, tmp_path / "other")


def change_results(run, change):
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))


def lose_targets(run, variant, share):
    """Forget the target of a share of the queries."""
    for name in ("ranks", "ranks_pool"):
        path = run / "variants" / variant / f"{name}.npy"
        ranks = np.load(path)
        ranks[: int(share * len(ranks))] = 0
        np.save(path, ranks)


def test_a_run_is_not_worse_than_itself(run_folder, other, capsys):
    assert main([str(run_folder), str(other)]) == 0
    out = capsys.readouterr().out
    assert "nothing is worse" in out
    assert {"mamba_s", "mamba_h", "amn"} <= {line.split()[0] for line in out.splitlines() if line.strip()}
    assert "last_vector" not in out


def test_a_real_loss_is_found_and_named_with_code_four(run_folder, other, capsys):
    lose_targets(other, "mamba_h", 0.8)
    assert main([str(run_folder), str(other), "--metric", "contain@50"]) == 4
    out = capsys.readouterr().out
    assert "worse on contain@50 beyond the interval: mamba_h (" in out


def test_the_other_way_round_the_same_difference_is_a_gain(run_folder, other, capsys):
    lose_targets(other, "mamba_h", 0.8)
    assert main([str(other), str(run_folder), "--metric", "contain@50"]) == 0
    assert "better" in capsys.readouterr().out


def test_runs_without_a_common_row_are_compared_by_their_best(run_folder, other, capsys):
    def rename(results):
        results["rows"] = [row | {"variant": "mamba_new"} for row in results["rows"] if row["variant"] == "mamba_s"]
        results["best"] = "mamba_new"

    change_results(other, rename)
    (other / "variants" / "mamba_s").rename(other / "variants" / "mamba_new")
    best = json.loads((run_folder / "results.json").read_text())["best"]
    main([str(run_folder), str(other)])
    assert f"{best} -> mamba_new" in capsys.readouterr().out


def test_another_corpus_is_refused(run_folder, other, capsys):
    change_results(other, lambda results: results["protocol"].update(data_sha256="abc"))
    assert main([str(run_folder), str(other)]) == 2
    assert "expected the corpus of" in capsys.readouterr().err


def test_other_queries_are_refused_with_how_many(run_folder, other, capsys):
    for path in other.glob("variants/*/windows.npy"):
        windows = np.load(path)
        windows[:3] += 1
        np.save(path, windows)
    assert main([str(run_folder), str(other)]) == 2
    assert "got 3 of 210 others; use the same seed and split" in capsys.readouterr().err


def test_another_number_of_queries_is_refused(run_folder, other, capsys):
    for path in other.glob("variants/*/*.npy"):
        np.save(path, np.load(path)[:50])
    assert main([str(run_folder), str(other)]) == 2
    assert "expected the 210 queries of" in capsys.readouterr().err


def test_a_run_that_did_not_keep_its_queries_is_refused(run_folder, other, capsys):
    for path in other.glob("variants/*/windows.npy"):
        path.unlink()
    assert main([str(run_folder), str(other)]) == 2
    assert "expected windows.npy beside ranks.npy" in capsys.readouterr().err


def test_a_folder_without_results_is_refused_in_one_line(run_folder, tmp_path, capsys):
    assert main([str(run_folder), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
