"""What a person reads."""

import csv
import io
import re

import pytest

from evaluation.report.table import ComparisonTable

PROTOCOL = {
    "n": 26_500,
    "index": {"kind": "ivf_flat", "nlist": 512},
    "commit": "abc1234",
    "waived": [],
    "unit": "article",
    "n_articles": 235,
    "n_novel": 824,
    "novel_below": 0.9,
    "duplicate_share": 0.28,
    "reranked": False,
    "repeats_dropped": 1234,
    "orders": "equal",
    "warnings": ["20 articles, fewer than 30: intervals are rough."],
}
VERDICT = "mamba_h is the best variant; it cannot be told from ridge. Tied with mamba_s; the faster one is named"


def row(name, novel, **other):
    figures = {"novel.r@5": novel, "r@5": novel + 0.1, "exclude_context.r@5": novel + 0.12, "exact.r@5": novel + 0.05}
    figures |= {"copied.r@5": 0.7, "novel.contain@50": 3 * novel, "novel.mrr@10": novel / 2, "answer_p95_ms": 12.34}
    ci = {"novel.r@5": [novel - 0.015, novel + 0.016], "novel.contain@50": [3 * novel - 0.02, 3 * novel + 0.02]}
    rest = {"params": 2_104_000, "tie_group": 1, "n_queries": 1456, "verdict": "TIE", "ci": ci}
    return {"variant": name, "kind": "variant", "status": "FINISHED"} | figures | rest | other


PRUNED = row("mamba_xl", 0.05, status="PRUNED", reason="contain@50 >= 0.55 at epoch 4: got 0.10", verdict="", epochs=4)
WAITED = {"variant": "mamba_gr", "kind": "variant", "status": "NOT_STARTED", "reason": "stage 1 failed"}
RIDGE = row("ridge", 0.159, kind="baseline", verdict=None, tie_group=None)
PAIR = {"a": "mamba_h", "b": "ridge", "better": None, "n_queries": 1456, "n_articles": 235}
TESTED = {"difference": 0.004, "ci": [-0.01, 0.018], "p": 0.4, "p_holm": 0.8, "minimum_detectable": 0.02}
RESULTS = {
    "protocol": PROTOCOL,
    "rows": [PRUNED, WAITED, row("mamba_s", 0.127), RIDGE, row("mamba_h", 0.141, verdict_why="3 of 3 gates")],
    "best": "mamba_h",
    "leader": "ridge",
    "verdict": VERDICT,
    "advice": ["Use more articles.", "Try a smaller step."],
    "pairs": [PAIR | {"metrics": {"novel.r@5": TESTED}}, PAIR | {"metrics": {"r@5": TESTED}}],
}


def table(**changes):
    return ComparisonTable.from_results(RESULTS | changes)


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n\n## ")[0]


def test_the_headline_is_the_first_sentence_of_the_verdict_and_the_tie_and_warnings_stand_above_the_table():
    lines = [line for line in table().markdown().splitlines() if line]
    assert lines[:3] == [
        "# mamba_h is the best variant; it cannot be told from ridge",
        "Tied with mamba_s; the faster one is named",
        "**Warning:** 20 articles, fewer than 30: intervals are rough.",
    ]


def test_all_evaluated_rows_stand_in_one_table_by_novel_r5_and_a_baseline_that_is_ahead_comes_first():
    cells = [line.split("|")[1].strip() for line in section(table().markdown(), "Comparison").splitlines()[3:]]
    assert [name for name in cells if name] == ["ridge", "mamba_h", "mamba_s"]


def test_the_first_columns_are_the_novel_figure_all_and_without_context():
    header, _, ridge = section(table().markdown(), "Comparison").splitlines()[1:4]
    assert re.split(r" *\| *", header)[1:-1] == [
        *("variant", "novel R@5 %", "R@5 %", "R@5 % no ctx", "novel Contain@50 %", "novel MRR@10", "answer P95 ms"),
        *("params", "tie", "verdict"),
    ]
    assert re.split(r" *\| *", ridge)[1:-1] == [
        *("ridge", "15.9 (14.4-17.5)", "25.9", "27.9", "47.7 (45.7-49.7)", "0.080", "12.34", "2.1M", "-", "baseline"),
    ]


def test_figures_that_no_row_has_are_no_column():
    rows = [{"variant": "x", "kind": "variant", "status": "FINISHED", "r@5": 0.2}]
    text = ComparisonTable({"protocol": {}, "rows": rows}).markdown()
    assert "| variant | R@5 % | verdict |" in text


def test_missing_and_undefined_figures_are_dashes_and_not_zeros():
    rows = [row("x", 0.1, **{"novel.mrr@10": float("nan"), "params": None}), row("y", 0.2)]
    line = next(line for line in table(rows=rows).terminal().splitlines() if line.startswith("x "))
    assert line.split()[-5:] == ["-", "12.34", "-", "1", "TIE"]


def test_pruned_and_never_started_trials_are_listed_below_with_the_reason():
    text = table().markdown()
    assert "contain@50 >= 0.55 at epoch 4: got 0.10" in section(text, "Ended early")
    assert "| NOT_STARTED |" in section(text, "Ended early")
    assert "mamba_xl" not in section(text, "Comparison") + section(text, "More figures")


def test_a_pair_shows_the_metric_that_decides_and_one_without_it_is_left_out():
    lines = section(table().markdown(), "Pairs").splitlines()[1:]
    assert len([line for line in lines if line.startswith("| mamba_h")]) == 1
    assert re.split(r" *\| *", lines[2])[1:-1] == ["mamba_h", "ridge", "+0.4 (-1.0 to +1.8)", "0.800", "2.0", "tied"]


@pytest.mark.parametrize(
    "words",
    [
        "the 824 of 1,456 final queries whose target is below cosine 0.9",
        "95 % intervals over articles (235 of them)",
        "28.0 % of the final queries have a target with an exact copy, which counts as the target. Without that R@5 "
        "is: ridge 20.9 %, mamba_h 19.1 %",
        "Nothing is reranked",
        "dropped before windows were cut: 1,234",
        "All trials saw the same windows in the same order",
        "Protocol: n 26,500; index (kind ivf_flat, nlist 512); commit abc1234\n",
    ],
)
def test_the_notes_say_what_the_figures_rest_on(words):
    assert words in table().markdown()


def test_without_articles_the_note_says_that_queries_are_the_unit():
    assert "over queries. No articles are known" in table(protocol={"unit": "query"}).markdown()


def test_trials_that_saw_different_data_and_waived_checks_are_warnings():
    found = table(protocol={"orders": "differ: amn at epoch 2", "waived": ["article_overlap"]}).warnings
    assert found == [
        "The trials did not see the same data: differ: amn at epoch 2.",
        "Waived preflight checks: article_overlap.",
    ]


def test_the_index_that_auto_tried_is_a_note_of_its_own():
    text = table(protocol={"index": {"kind": "flat", "tried": [{"index": "flat", "p95_ms": 0.4}]}}).markdown()
    assert "Index chosen from: (index flat, p95_ms 0.4)" in text
    assert "Protocol: index (kind flat)" in text


@pytest.mark.parametrize(("width", "columns"), [(120, 10), (100, 10), (80, 7)])
def test_a_terminal_gets_lines_that_fit_and_numbers_that_are_whole(width, columns):
    ci = {"novel.r@5": [0.1, 0.999], "novel.contain@50": [0.999, 1.0]}
    rows = [row("mamba_sandwich", 0.123, ci=ci, verdict="PRODUCTION READY"), PRUNED | {"reason": "because " * 40}]
    text = table(rows=rows).terminal(width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"^-+(  -+)*$", text, re.MULTILINE)[0].count("  ") == columns - 1
    for number in ("12.3", "(10.0-99.9)", "(99.9-100.0)", "12.34", "READY"):
        assert re.search(rf"(?<![\w.]){re.escape(number)}(?![\w.])", text), number


def test_a_terminal_shows_verdict_warnings_table_and_advice():
    text = table().terminal()
    assert text.startswith("mamba_h is the best variant; it cannot be told from ridge\n\nTied with")
    places = [text.index(part) for part in ("Warning: 20 articles", "\nridge", "- Use more", "\nmamba_xl")]
    assert places == sorted(places)


def test_csv_keeps_shares_as_they_are_with_interval_columns():
    rows = list(csv.DictReader(io.StringIO(table().csv())))
    assert [row["variant"] for row in rows] == ["ridge", "mamba_h", "mamba_s", "mamba_xl", "mamba_gr"]
    assert float(rows[0]["novel.r@5"]) == 0.159
    assert float(rows[0]["novel.r@5_low"]) == pytest.approx(0.144)


def test_latex_is_tables_with_captions_labels_and_wrapped_prose():
    long = row("mamba_s", 0.1, verdict_why="a reason of more words than a column of a paper is wide")
    text = table(rows=[long], protocol=PROTOCOL | {"experiment": "phase_5"}).latex()
    assert text.startswith("% needs \\usepackage{booktabs}")
    assert text.count("\\begin{table}") == text.count("\\caption{") == text.count("\\end{table}") == 4
    assert "\\label{tab:phase-5-comparison}" in text
    assert "\\begin{tabular}{llp{0.4\\linewidth}}" in text
    assert "mamba\\_s & 10.0 (8.5-11.6) &" in text
    assert "R@5 \\%" in text


def test_html_is_well_formed_and_carries_the_figures_to_sort_by(parse):
    page = parse(table().html())
    assert {"data-sort": "0.159"}.items() <= page.all("td")[1].items()
    assert "it cannot be told from ridge" in page.text
    assert "Warning: 20 articles" in page.text


def test_all_formats_are_written_into_the_run_folder(tmp_path):
    paths = table().write(tmp_path)
    assert [path.name for path in paths] == [f"comparison.{suffix}" for suffix in ("md", "csv", "html", "tex")]
    assert (tmp_path / "comparison.md").read_text() == table().markdown()
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_search_was_given_and_what_it_used_is_said():
    trials = [{"trial": f"mamba_s.{one}", "flops": 4.6e12, "train_s": 30.0} for one in (1, 2)]
    searched = row("mamba_s", 0.127, search=trials)
    seconds = {"search": {"budget": {"flops": None, "seconds": 62.0}}}
    notes = " ".join(table(protocol=PROTOCOL | seconds, rows=[searched]).footnotes)
    assert "The search of each variant was given 62.00 s of training; used: mamba_s 60.00 (97 %)." in notes
    notes = " ".join(table(protocol=PROTOCOL | {"search": {"budget": {"flops": 9.8e12}}}, rows=[searched]).footnotes)
    assert "The search of each variant was given 9.80 TFLOP of training; used: mamba_s 9.20 (94 %)." in notes
    assert "was given" not in " ".join(table(protocol=PROTOCOL | {"search": {"budget": None}}).footnotes)
