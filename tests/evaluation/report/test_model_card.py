"""The card, and that its code does what it says."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from evaluation.report.model_card import write_model_card
from evaluation.results import load_results


@pytest.fixture(scope="module")
def best(run_folder, tmp_path_factory):
    """The card of best/ as a launch leaves it, the code in it, and the row of the best variant."""
    run = shutil.copytree(run_folder, tmp_path_factory.mktemp("card") / "run")
    results = load_results(run)
    (run / "best").mkdir()
    shutil.copy(run / "variants" / results["best"] / "best.pt", run / "best")
    card = write_model_card(run / "best", run, results, results["protocol"]["payload_path"]).read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    return card, code, next(row for row in results["rows"] if row["variant"] == results["best"])


def test_the_code_of_the_card_gives_the_tables_figures_again_in_a_clean_process(best):
    _, code, row = best
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"((?:novel )?R@\d+|Eff@5|MRR@10)\W+(?:np\.float64\()?([-\d.]+)", done.stdout)
    same = {"R@20": "contain@20", "R@50": "contain@50", "novel R@5": "novel.r@5"}
    assert {name: float(value) for name, value in found} == pytest.approx(
        {name: row[same.get(name, name.lower())] for name, _ in found}, rel=1e-5
    )
    assert len(found) == 8


def test_the_code_is_about_ten_statements(best):
    assert len([line for line in best[1].splitlines() if line and not line.startswith(("import", "from"))]) <= 10


@pytest.mark.parametrize("name", ["r@5", "novel.r@5"])
def test_the_card_holds_the_metrics_with_intervals(best, name):
    text, _, row = best
    low, high = row["ci"][name]
    assert re.search(rf"\| {name} +\| {100 * row[name]:.1f} % +\| {100 * low:.1f} to {100 * high:.1f} +\|", text)


def test_the_card_holds_the_verdict_and_what_it_rests_on(best):
    text, _, row = best
    assert f"Verdict: {row['verdict']}. {row['verdict_why']}" in text
    assert f"On {row['n_queries']} held-out queries, 140 of them novel" in text
    assert "nan" not in text.lower().replace("nano", "")


def test_the_card_names_what_it_was_trained_on(run_folder, tmp_path):
    results = load_results(run_folder)
    results["protocol"] |= {"N": 26_998, "D": 256, "embedder": "wordllama", "data_sha256": "abc"}
    (tmp_path / "config.yaml").write_text(json.dumps({"variants": {results["best"]: {"d_model": 64, "training": {}}}}))
    next(row for row in results["rows"] if row["variant"] == results["best"])["val_share"] = 0.0
    card = write_model_card(tmp_path, tmp_path, results, "artifacts/x").read_text()
    assert "- share of the layers' output in a prediction: 0.0" in card
    assert "26,998 chunks, dimension 256" in card
    assert "- embedder: wordllama" in card
    assert "d_model 64" in card
