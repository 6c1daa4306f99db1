"""Runs under several seeds, pooled or refused."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from evaluation.queries import QUERIES_FILE
from evaluation.statistics.outcomes import Outcomes, Queries
from evaluation.studies.seed_runs import SeedRun
from evaluation.studies.seeds import main, pool


def seed_run(articles, **ranks):
    rows = {}
    for name, listed in ranks.items():
        found = np.asarray(listed, np.int32)
        rows[name] = Outcomes(found, found, np.zeros(len(found)))
    articles = np.asarray(articles, np.int32)
    return SeedRun(Queries(articles, np.arange(len(articles)) % 2 == 0), rows)


@pytest.fixture
def runs(run_folder, tmp_path):
    """Two folders that differ in their seed."""
    folders = []
    for seed in (7, 8):
        folder = shutil.copytree(run_folder, tmp_path / f"seed-{seed}")
        change_protocol(folder, seed=seed)
        folders.append(folder)
    return folders


def change_protocol(folder, **changes):
    results = json.loads((folder / "results.json").read_text())
    results["protocol"].update(changes)
    (folder / "results.json").write_text(json.dumps(results))


def test_means_and_differences_are_those_of_the_runs():
    first = seed_run([0, 0, 1, 1], base=[1, 6, 60, 0], other=[1, 5, 3, 0])
    second = seed_run([0, 1], base=[6, 51], other=[1, 1])
    pooled = pool([first, second], ("r@5", "contain@50", "novel.r@5", "eff@5"), "base")
    assert pooled["base"]["r@5"].mean.by_run == (0.25, 0.0)
    assert pooled["base"]["contain@50"].mean.by_run == (0.5, 0.5)
    assert pooled["base"]["novel.r@5"].mean.by_run == (0.5, 0.0)
    assert pooled["base"]["eff@5"].mean.by_run == (0.5, 0.0)
    assert pooled["other"]["r@5"].mean.value == 0.875
    assert pooled["other"]["r@5"].difference.by_run == (0.5, 1.0)
    assert pooled["other"]["r@5"].difference.value == 0.75


def test_differences_are_paired():
    # Article by article `other` hits one query of two more than `base`, whatever the article.
    run = seed_run([0, 0, 1, 1], base=[0, 0, 1, 0], other=[1, 0, 1, 1])
    pooled = pool([run], ("r@5",), "base")
    assert pooled["other"]["r@5"].difference.ci == (0.5, 0.5)
    assert pooled["other"]["r@5"].mean.ci == (0.5, 1.0)
    assert pooled["base"]["r@5"].difference.ci == (0.0, 0.0)


def test_every_row_is_listed_in_the_runs_order_with_its_difference(runs, capsys):
    assert main([*map(str, runs), "--against", "last_vector"]) == 0
    out = capsys.readouterr().out
    names = [line.split("|")[1].strip() for line in out.splitlines()[2:] if line.startswith("|")]
    assert names == ["mamba_s", "mamba_h", "amn", "last_vector", "context_mean"]
    reference = next(line.split("|") for line in out.splitlines() if line.startswith("| last_vector"))
    assert [cell.strip() for cell in reference[3:5]] == ["+0.0 (+0.0 to +0.0)", "+0.0 +0.0"]
    assert "2 runs with 95 % intervals over articles; queries: 210 (140 novel) in 30 articles; 210" in out
    assert " novel R@5 % |" in out


def test_csv_holds_the_mean_of_the_runs(runs, capsys):
    ranks = np.load(runs[1] / "variants" / "mamba_h" / "ranks.npy")
    for name in ("ranks", "ranks_pool"):
        np.save(runs[1] / "variants" / "mamba_h" / f"{name}.npy", np.zeros_like(ranks))
    assert main([*map(str, runs), "--against", "mamba_s", "--metrics", "r@5", "--format", "csv"]) == 0
    rows = {row["variant"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(rows["mamba_h"]["mean"]) == pytest.approx(((ranks >= 1) & (ranks <= 5)).mean() / 2)
    assert float(rows["mamba_h"]["low"]) < float(rows["mamba_h"]["mean"]) < float(rows["mamba_h"]["high"])


def other_corpus(folder):
    change_protocol(folder, data_sha256="abc")


def same_seed(folder):
    change_protocol(folder, seed=7)


def lost_row(folder):
    (folder / "variants" / "mamba_h" / "ranks.npy").unlink()


def other_recipe(folder):
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("min_article_chunks: 7", "min_article_chunks: 8"))


def no_results(folder):
    (folder / "results.json").unlink()


def no_queries(folder):
    (folder / QUERIES_FILE).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_corpus, "only runs on the same data can be compared"),
        (same_seed, "got 7 again; launch it with --set seed=8"),
        (lost_row, "got no final figures of mamba_h"),
        (other_recipe, "got another data in its config.yaml"),
        (no_results, "expected the results of a run, got no file"),
        (no_queries, "expected the queries of a run, got no file"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused_in_one_line(runs, capsys, spoil, message):
    spoil(runs[1])
    assert main([*map(str, runs), "--against", "mamba_s"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_row_that_only_the_later_run_has_is_refused_too(runs, capsys):
    lost_row(runs[0])
    assert main([*map(str, runs), "--against", "mamba_s"]) == 2
    assert f"{runs[0]}: expected the rows of {runs[1]}, got no final figures of mamba_h" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "nobody"], "--against: expected one of mamba_s, mamba_h, amn, last_vector, context_mean, got"),
        (["--against", "amn", "--metrics", "r@6"], "--metrics: expected some of novel.cosine, novel.r@1"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(runs, capsys, options, message):
    assert main([*map(str, runs), *options]) == 2
    assert message in capsys.readouterr().err
