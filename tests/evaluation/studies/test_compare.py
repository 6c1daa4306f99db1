"""Two runs on the same queries, or a clear refusal."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from evaluation.queries import QUERIES_FILE, load_queries, save_queries
from evaluation.studies.compare import main


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
    assert "worse beyond chance: mamba_h (contain@50, sign flip over articles, Holm over 3 rows)" in out


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


def test_a_loss_in_two_articles_is_no_evidence(run_folder, other, capsys):
    # 14 of 210 queries, 7 points: an interval over queries would call it a loss, and two articles are two coins.
    lose_targets(other, "mamba_h", 14 / 210)
    assert main([str(run_folder), str(other), "--metric", "contain@50"]) == 0
    assert "nothing is worse" in capsys.readouterr().out


def test_the_more_rows_are_compared_the_more_a_loss_must_show(run_folder, other, capsys):
    # A loss in each of six articles: p = 2 / 2^6 = 0.03 alone, 0.09 among three rows.
    lose_one_target_in(6, run_folder, other, "mamba_h")
    assert main([str(run_folder), str(other), "--metric", "contain@50"]) == 0
    change_results(other, lambda results: results.update(rows=[results["rows"][1]]))
    assert main([str(run_folder), str(other), "--metric", "contain@50"]) == 4


def lose_one_target_in(num_articles, run_folder, other, variant):
    article, path = load_queries(run_folder).article, other / "variants" / variant / "ranks_pool.npy"
    ranks = np.load(path)
    found = np.flatnonzero(ranks)
    _, first = np.unique(article[found], return_index=True)
    ranks[found[first[:num_articles]]] = 0
    np.save(path, ranks)


def test_novel_is_what_neither_run_has_seen_and_without_such_queries_nothing_is_claimed(run_folder, other, capsys):
    queries = load_queries(other)
    save_queries(other, replace(queries, novel=np.zeros(len(queries), bool)))
    assert main([str(run_folder), str(other)]) == 2
    assert "--metric: expected one that these queries define, got novel.r@5" in capsys.readouterr().err
    assert main([str(run_folder), str(other), "--metric", "r@5"]) == 0


def other_windows(queries):
    return replace(queries, windows=queries.windows + (np.arange(len(queries)) < 3)[:, None].astype(np.int32))


def fewer(queries):
    return replace(queries, **{name: getattr(queries, name)[:50] for name in queries.__dataclass_fields__})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_windows, "got 3 of 210 others; use the same seed and split"),
        (fewer, "expected the 210 queries of"),
    ],
)
def test_other_queries_are_refused(run_folder, other, capsys, change, message):
    save_queries(other, change(load_queries(other)))
    assert main([str(run_folder), str(other)]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_did_not_keep_its_queries_is_refused(run_folder, other, capsys):
    (other / QUERIES_FILE).unlink()
    assert main([str(run_folder), str(other)]) == 2
    assert "queries.npz: expected the queries of a run, got no file; launch the run again" in capsys.readouterr().err


def test_a_folder_without_results_is_refused_in_one_line(run_folder, tmp_path, capsys):
    assert main([str(run_folder), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
