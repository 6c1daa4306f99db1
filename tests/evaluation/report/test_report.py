"""The page about a run."""

import json
import re
import shutil

import numpy as np
import pytest

from evaluation.report.examples import choose
from evaluation.report.page import main, write_report


@pytest.fixture(scope="module")
def html(run_folder):
    return write_report(run_folder).read_text()


@pytest.fixture
def copied(run_folder, tmp_path):
    return shutil.copytree(run_folder, tmp_path / "run")


def change(run, **changes):
    """Change results.json; return the text of the page."""
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | changes))
    return write_report(run).read_text()


def test_the_page_is_well_formed_and_every_link_leads_to_a_section_or_a_file(html, parse, run_folder):
    page = parse(html)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"] for attrs in page.all("a")}
    assert {link.removeprefix("#") for link in links if link.startswith("#")} == ids
    assert ids == {
        *("comparison", "verdicts", "ended-early", "pairs", "while-training", "retrieval-and-latency", "time"),
        *("more-figures", "queries", "preflight", "configuration", "files", "protocol"),
    }
    files = {link for link in links if not link.startswith("#")}
    assert {"results.json", "config.yaml", "queries.npz", "variants"} <= files
    assert all((run_folder / name).exists() for name in files)


def test_nothing_is_loaded_from_anywhere(html, parse):
    tags = parse(html).tags
    assert not [tag for tag, attrs in tags if "src" in attrs or tag in {"link", "iframe", "img", "object"}]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)


def test_the_top_says_what_was_found_how_surely_and_when(html, parse):
    top = parse(html.split("<nav>")[0] + "</main></body></html>").text
    assert "2026-01-01 00:00 UTC · commit abc1234 · seed 7" in top
    assert "mamba_h is the best variant; it cannot be told from amn (novel R@5" in top
    assert "TIE Tied with mamba_s; among ties fewer parameters" in top
    assert "Warning: 140 novel queries" in top
    assert "What to try next Use more articles" in top


def test_every_figure_is_drawn(html):
    assert re.findall(r"<figcaption><h3>(.*?)</h3>", html) == [
        "Smoke R@5, novel smoke queries",
        "Smoke Contain@50, novel smoke queries",
        "Smoke R@5, all smoke queries",
        "Smoke Contain@50, all smoke queries",
        "Validation cosine by windows seen",
        "Validation cosine by seconds of this trial",
        "Validation loss by windows seen",
        "Recall at k, novel queries",
        "Recall at k, all queries",
        "Search latency",
        "Where each trial&#39;s time went",
        "Where the run&#39;s time went",
    ]


def test_a_gate_is_drawn_and_the_prune_is_marked(html):
    assert 'class="guide"' in html
    assert "mamba_xl pruned: contain@50 &gt;= 0.55 at epoch 4: got 0.10" in html


def test_the_latency_axis_ends_with_the_data_and_a_gate_or_an_outlier_beyond_is_not_drawn(copied):
    results = json.loads((copied / "results.json").read_text())
    gates = [{"rule": f"p95_ms <= {limit}", "limit": limit, "passed": True} for limit in (1.2, 900.0)]
    results["rows"][0]["gates"] = gates
    for path in copied.glob("variants/*/latency_ms.npy"):
        np.save(path, np.array([1.0] * 99 + [500.0], np.float32))
    figure = re.search(r"<h3>Search latency.*?</figure>", change(copied, rows=results["rows"]), re.DOTALL)[0]
    ticks = [float(tick) for tick in re.findall(r'<text class="tick"[^>]*>([\d.]+)<', figure)]
    assert "Gate, outside the picture: 900 ms." in figure
    assert re.findall(r"gate [\d.]+ ms", figure) == ["gate 1.2 ms"]
    assert max(tick for tick in ticks if tick not in (50, 100)) <= 1.3


def test_a_pruned_trial_is_shown_with_the_answers_of_its_triage(html, parse):
    assert "is the target within the first 1,000? 0.2 mostly not" in parse(html).text


def test_the_configuration_shows_what_differs_between_variants_first(html, parse):
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", html.split('id="configuration"')[1])
    assert rows == [("dropout", "0.2", "-"), ("training.epochs", "6", "4")]
    assert "min_article_chunks: 7" in parse(html).text


def test_the_matrix_of_pairs_shows_both_directions_and_colours_what_can_be_told_apart(copied):
    first, *others = json.loads((copied / "results.json").read_text())["pairs"]
    html = change(copied, pairs=[first | {"better": first["a"]}, *others])
    matrix = re.search(r'<table class="matrix">.*?</table>', html, re.DOTALL)[0]
    numbers = [float(number) for number in re.findall(r'class="\w*">([+-][0-9.]+)<small>', matrix)]
    assert len(numbers) == 6
    assert sum(numbers) == pytest.approx(0.0)
    assert numbers[1] != 0
    assert matrix.count('class="good"') == matrix.count('class="bad"') == 1


def test_twenty_queries_are_shown_with_ranks_and_what_was_retrieved(html):
    assert html.count('<details class="query"') == 20
    assert html.count("<dt>true next</dt>") == 20
    nearest = re.findall(r"nearest training chunk ([\d.]+)", html)
    assert max(map(float, nearest)) < 0.9, "the novel ones"
    assert "from the context" in html


def test_light_dark_and_paper_are_thought_of(html):
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert "@media print" in html
    assert '"beforeprint"' in html


def test_a_run_with_nothing_but_results_still_has_a_report(copied, parse):
    for path in copied.iterdir():
        if path.name != "results.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    html = change(copied, protocol={}, pairs=[])
    assert "No texts:" in parse(html).text
    assert "Search latency" not in html


def test_a_report_without_survivor_says_so_and_lists_the_reasons(copied, parse):
    rows = [row for row in json.loads((copied / "results.json").read_text())["rows"] if row["status"] == "PRUNED"]
    text = parse(change(copied, rows=rows, best=None, verdict="No variant survived", pairs=[])).text
    assert "No variant survived NO SURVIVOR" in text
    assert "contain@50 >= 0.55 at epoch 4: got 0.10" in text


def test_queries_are_drawn_evenly_from_the_four_classes():
    best = np.array([1] * 30 + [9] * 30 + [1] * 30 + [0] * 30)
    other = np.array([9] * 30 + [1] * 30 + [1] * 30 + [0] * 30)
    chosen = choose(best, other)
    assert len(set(chosen)) == 20
    assert sorted(query // 30 for query in chosen) == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_an_empty_class_is_made_up_for_by_the_others():
    assert len(choose(np.ones(30, int), np.ones(30, int))) == 20
    assert sorted(choose(np.ones(3, int), np.zeros(3, int))) == [0, 1, 2]


def test_the_command_prints_the_paths_and_refuses_a_folder_without_results(run_folder, tmp_path, capsys):
    assert main([str(run_folder)]) == 0
    assert [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.split()] == [
        *(f"comparison.{suffix}" for suffix in ("md", "csv", "html", "tex")),
        "report.html",
    ]
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
