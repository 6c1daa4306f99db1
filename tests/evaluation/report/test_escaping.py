"""Names, titles and texts that would be markup stay text in every format."""

import json
import re
import shutil

import pytest
import yaml

from evaluation.report.page import write_all
from tests.browser import HOSTILE, assert_nothing_ran, dom_of, needs_browser

ONE_LINE = " ".join(HOSTILE.split())
TEX = (
    r'\textless{}img src=x onerror="document.title=1"\textgreater{}\textless{}script\textgreater{}\textbar{}a\_b\&amp;'
    r"c\%d \#\{\$\textasciitilde{}\textasciicircum{}\textbackslash{}\} {[}x](y) {*}z{*} `q`"
)


def replaced(content):
    """Every text and every name of a variant in a JSON file made hostile; what code reads stays."""
    if isinstance(content, dict):
        kept = ("kind", "status", "payload_path", "unit", "rule", "data_sha256", "action", "metric")
        return {
            HOSTILE if key == "mamba_h" else key: value if key in kept else replaced(value)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [replaced(value) for value in content]
    return content if not isinstance(content, str) or content in {"mamba_s", "amn"} else HOSTILE


@pytest.fixture(scope="module")
def hostile(run_folder, tmp_path_factory):
    """A run whose variant mamba_h, reasons, verdicts, advice, protocol and configuration are hostile, rendered."""
    run = shutil.copytree(run_folder, tmp_path_factory.mktemp("hostile") / "run")
    for name in ("results.json", "preflight.json", "timeline.json"):
        (run / name).write_text(json.dumps(replaced(json.loads((run / name).read_text()))))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"variants": replaced(config["variants"])}))
    (run / "variants" / "mamba_h").rename(run / "variants" / HOSTILE)
    write_all(run)
    return run


@pytest.mark.parametrize("name", ["report.html", "comparison.html"])
def test_html_shows_it_as_text(hostile, parse, name):
    page = parse((hostile / name).read_text())
    assert len(page.all("script")) == 1, "the page's own"
    assert not page.all("img")
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert page.text.count("<script>|a_b&amp;c%d") > 10


def test_texts_of_the_corpus_are_text(hostile, parse):
    page = parse((hostile / "report.html").read_text())
    assert "<b>chunk" in page.text


def test_markdown_has_no_tag_no_link_and_whole_rows(hostile):
    text = (hostile / "comparison.md").read_text()
    assert not re.search(r"(?<!\\)<[A-Za-z/!]|(?<!\\)\[x|(?<!\\)[*`]z?q?(?<!\\)[*`]", text.replace("**Warning:**", ""))
    grids = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(grids) == 5
    for lines in grids:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "\x1b" not in "".join(line for lines in grids for line in lines)


def test_latex_escapes_all_that_it_would_read(hostile):
    text = (hostile / "comparison.tex").read_text()
    assert TEX in text
    assert ONE_LINE not in text


@needs_browser
@pytest.mark.parametrize("name", ["report.html", "comparison.html"])
def test_a_browser_runs_none_of_it(hostile, tmp_path, name):
    dom = dom_of(hostile / name, tmp_path)
    assert_nothing_ran(dom)
    assert 'tabindex="0"' in dom, "the page's own script ran"
