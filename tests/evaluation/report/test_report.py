"""The page about a run."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from evaluation.report.page import main, write_report
from evaluation.report.page_queries import choose

VOID = {"meta", "br", "rect", "line", "polyline", "path", "circle"}


class Page(HTMLParser):
    """Checks nesting and gathers ids, links and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID or tag in {"rect", "polyline", "path", "circle", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def html(run_folder):
    return write_report(run_folder).read_text()


@pytest.fixture
def copied(run_folder, tmp_path):
    return shutil.copytree(run_folder, tmp_path / "run")


def test_the_page_is_well_formed_and_every_link_leads_to_a_section(html):
    page = Page(html)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert {link.removeprefix("#") for link in links} == ids
    assert {"comparison", "ended-early", "pairs", "while-training", "retrieval-and-latency", "time"} <= ids
    assert {"more-figures", "queries", "preflight"} <= ids


def test_nothing_is_loaded_from_anywhere(html):
    assert not re.search(r"(?:src|href)=\"(?!#)", html)
    assert "url(" not in html
    assert "@import" not in html


def test_every_figure_is_drawn(html):
    titles = set(re.findall(r"<figcaption><h3>(.*?)</h3>", html))
    assert titles == {
        "Smoke R@5",
        "Smoke Contain@50",
        "Validation cosine by windows seen",
        "Validation cosine by seconds of this trial",
        "Validation loss by windows seen",
        "Recall at k",
        "Search latency",
        "Where each trial&#x27;s time went",
        "Where the run&#x27;s time went",
    }


def test_a_gate_is_drawn_and_the_prune_is_marked(html):
    assert 'class="guide"' in html
    assert "mamba_xl pruned: contain@50 &gt;= 0.55 at epoch 4: got 0.10" in html


def test_text_of_the_corpus_is_escaped(html):
    assert "&lt;b&gt;chunk" in html
    assert "<b>chunk" not in html


def test_twenty_queries_are_shown_with_ranks_and_what_was_retrieved(html):
    assert html.count('<details class="query"') == 20
    assert html.count("<dt>true next</dt>") == 20
    assert "from the context" in html


def test_light_and_dark_are_the_readers_choice(html):
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_a_run_with_nothing_but_results_still_has_a_report(copied):
    for path in copied.iterdir():
        if path.name != "results.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    html = write_report(copied, None).read_text()
    Page(html)
    assert "No texts:" in html
    assert "Search latency" not in html


def test_a_report_without_survivor_says_so_and_lists_the_reasons(copied):
    results = json.loads((copied / "results.json").read_text())
    results["rows"] = [row for row in results["rows"] if row["status"] == "PRUNED"]
    results |= {"best": None, "verdict": "NO SURVIVOR", "pairs": []}
    (copied / "results.json").write_text(json.dumps(results))
    text = "".join(Page(write_report(copied).read_text()).text)
    assert "No variant survived" in text
    assert "contain@50 >= 0.55 at epoch 4: got 0.10" in text


def test_pairs_are_recomputed_when_the_results_have_none(copied, html):
    results = json.loads((copied / "results.json").read_text())
    best_last = sorted(results["rows"], key=lambda row: row["variant"] == results["best"])
    latencies = {row["variant"]: float(place) for place, row in enumerate(best_last)}
    rows = [row | {"p95_ms": latencies[row["variant"]]} for row in results["rows"]]  # ties are shown by latency
    (copied / "results.json").write_text(json.dumps(results | {"pairs": [], "rows": rows}))
    again = write_report(copied).read_text()
    matrix = re.compile(r'<table class="matrix">.*?</table>', re.DOTALL)
    numbers = [re.findall(r">([+-][0-9.]+)<small>", matrix.search(text)[0]) for text in (html, again)]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) == 6


def test_queries_are_drawn_evenly_from_the_four_classes():
    best = np.array([1] * 30 + [9] * 30 + [1] * 30 + [0] * 30)
    other = np.array([9] * 30 + [1] * 30 + [1] * 30 + [0] * 30)
    chosen = choose(best, other)
    assert len(set(chosen)) == 20
    assert sorted(query // 30 for query in chosen) == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_an_empty_class_is_made_up_for_by_the_others():
    assert len(choose(np.ones(30, int), np.ones(30, int))) == 20
    assert sorted(choose(np.ones(3, int), np.zeros(3, int))) == [0, 1, 2]


def test_the_command_prints_the_path_and_refuses_a_folder_without_results(run_folder, tmp_path, capsys):
    assert main([str(run_folder)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
