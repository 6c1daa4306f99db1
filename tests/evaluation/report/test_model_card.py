"""The card, and that its code does what it says."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from evaluation.report.model_card import write_model_card
from evaluation.results import load_results


@pytest.fixture
def best(run_folder, tmp_path):
    """A run with best/ as a launch leaves it, and the row of its best."""
    run = shutil.copytree(run_folder, tmp_path / "run")
    results = load_results(run)
    (run / "best").mkdir()
    shutil.copy(run / "variants" / results["best"] / "best.pt", run / "best")
    write_model_card(run / "best", run, results, results["protocol"]["payload_path"])
    return run / "best", next(row for row in results["rows"] if row["variant"] == results["best"])


def test_the_code_of_the_card_gives_the_tables_figure_again_in_a_clean_process(best):
    folder, row = best
    code = re.search(r"```python\n(.*?)```", (folder / "model_card.md").read_text(), re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(R@\d+|Eff@5|MRR@10|cosine)\W+(?:np\.float64\()?([-\d.]+)", done.stdout)
    same = {"R@20": "contain@20", "R@50": "contain@50"}
    expected = {name: row[same.get(name, name.lower())] for name, _ in found}
    assert len(expected) == 8
    assert {name: float(value) for name, value in found} == pytest.approx(expected, rel=1e-5)


def test_the_code_is_about_ten_statements(best):
    code = re.search(r"```python\n(.*?)```", (best[0] / "model_card.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 10


def test_the_card_holds_the_metrics_with_intervals_and_the_verdict(best):
    folder, row = best
    text = (folder / "model_card.md").read_text()
    low, high = row["ci"]["r@5"]
    assert re.search(rf"\| r@5 +\| {100 * row['r@5']:.1f} % +\| {100 * low:.1f} to {100 * high:.1f} +\|", text)
    assert f"Verdict: {row['verdict']}. {row['verdict_why']}" in text
    assert f"On {row['n_queries']} held-out queries" in text
    assert "nan" not in text.lower().replace("nano", "")


def test_the_card_names_what_it_was_trained_on(run_folder, tmp_path):
    results = load_results(run_folder)
    results["protocol"] |= {"N": 26_998, "D": 256, "embedder": "wordllama", "data_sha256": "abc"}
    (tmp_path / "config.yaml").write_text(json.dumps({"variants": {results["best"]: {"d_model": 64, "training": {}}}}))
    card = write_model_card(tmp_path, tmp_path, results, "artifacts/x").read_text()
    assert "26,998 chunks, dimension 256" in card
    assert "- embedder: wordllama" in card
    assert "d_model 64" in card
