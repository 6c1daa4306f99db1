"""What a person reads."""

import csv
import io
from html.parser import HTMLParser

import pytest

from evaluation.report.table import ComparisonTable, protocol_line

PROTOCOL = {"n": 26_500, "dim": 256, "index": {"kind": "ivf_flat", "nlist": 512}, "commit": "abc1234", "waived": []}


def variant(name, r5, **other):
    row = {
        "variant": name,
        "kind": "variant",
        "status": "FINISHED",
        "reason": "",
        "r@5": r5,
        "contain@50": 2 * r5,
        "eff@5": 0.5,
        "mrr@10": r5 / 2,
        "p95_ms": 1.234,
        "params": 2_104_000,
        "ci": {"r@5": [r5 - 0.015, r5 + 0.016]},
        "verdict": "SUCCESS",
    }
    return row | other


PRUNED = variant(
    "mamba_xl", 0.05, status="PRUNED", reason="contain@50 >= 0.55 at epoch 4: got 0.10", verdict="", epochs=4
)
ROWS = [
    PRUNED,
    variant("last_vector", 0.094, kind="baseline", verdict=None, params=0, ci=None),
    variant("mamba_s", 0.213),
    variant("mamba_h", 0.25),
]


@pytest.fixture
def table():
    return ComparisonTable.from_results(
        {"rows": ROWS, "protocol": PROTOCOL, "best": "mamba_s", "verdict": "SUCCESS: r@5 21.3 %", "pairs": []}
    )


def test_the_best_is_first_then_survivors_by_r5_then_baselines_then_what_ended_early(table):
    text = table.text()
    places = [text.index(f"\n{name}") for name in ("mamba_s", "mamba_h", "last_vector", "mamba_xl")]
    assert places == sorted(places)


def test_shares_are_per_cent_with_their_interval(table):
    assert "21.3 (19.8-22.9)" in table.markdown()


def test_a_pruned_variant_is_listed_with_rule_and_value_below(table):
    below = table.markdown().split("## Ended early")[1]
    assert "contain@50 >= 0.55 at epoch 4: got 0.10" in below
    assert "mamba_xl" not in table.markdown().split("## More figures")[0]


def test_a_terminal_of_120_columns_is_wide_enough_even_for_long_intervals_and_reasons():
    ci = {name: [0.101, 0.999] for name in ("r@5", "contain@50", "eff@5")}
    wide = [variant("mamba_sandwich", 0.5, ci=ci, verdict="PRODUCTION READY"), PRUNED | {"reason": "because " * 40}]
    assert max(map(len, ComparisonTable(wide, PROTOCOL).text().splitlines())) <= 120


def test_a_pipe_in_a_reason_does_not_break_the_markdown():
    row = variant("x", 0.1, status="FAILED", reason="a | b\nc")
    line = next(line for line in ComparisonTable([row], {}).markdown().splitlines() if line.startswith("| x"))
    assert "a \\| b c" in line


def test_missing_and_undefined_figures_are_dashes_and_not_zeros():
    row = variant("x", 0.1, **{"eff@5": float("nan"), "mrr@10": None})
    line = next(line for line in ComparisonTable([row], {}).text().splitlines() if line.startswith("x "))
    assert line.split()[3:6] == ["20.0", "-", "-"]


def test_without_survivors_it_says_so():
    assert ComparisonTable([PRUNED], {}).markdown().startswith("# No variant survived\n")


def test_csv_keeps_shares_as_they_are_with_interval_columns(table):
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [row["variant"] for row in rows] == ["mamba_s", "mamba_h", "last_vector", "mamba_xl"]
    assert float(rows[0]["r@5"]) == 0.213
    assert float(rows[0]["r@5_low"]) == pytest.approx(0.198)


def test_the_protocol_line_names_nested_settings_and_leaves_out_what_is_empty():
    assert protocol_line(PROTOCOL) == "n 26,500; dim 256; index (kind ivf_flat, nlist 512); commit abc1234"


def test_a_learned_baseline_that_failed_is_listed_with_what_ended_early():
    table = ComparisonTable([variant("amn", 0.1, kind="baseline", status="FAILED", reason="out of memory")], {})
    assert "out of memory" in table.text()
    assert table.baselines == []


PAIR = {
    "a": "mamba_s",
    "b": "amn",
    "better": None,
    "n_queries": 1000,
    "metrics": {
        "r@5": {
            "difference": 0.004,
            "ci": [-0.01, 0.018],
            "p": 0.4,
            "p_holm": 0.8,
            "minimum_detectable": 0.02,
            "only_a": 30,
            "only_b": 26,
        }
    },
}


def test_a_pair_is_shown_with_difference_interval_p_and_what_could_have_been_found():
    table = ComparisonTable([variant("mamba_s", 0.2)], {}, pairs=[PAIR])
    line = next(line for line in table.text().splitlines() if line.startswith("mamba_s  amn"))
    assert line.split() == [
        "mamba_s",
        "amn",
        *["+0.4", "(-1.0", "to", "+1.8)", "30", "/", "26", "0.800", "2.0", "tied"],
    ]


def test_verdicts_are_listed_with_their_reasons():
    row = variant("mamba_s", 0.2, verdict="TIE", verdict_why="R@5 20.0 against amn 19.6 %")
    assert "| TIE       | R@5 20.0 against amn 19.6 % |" in ComparisonTable([row], {}).markdown()


def test_the_index_that_auto_tried_is_a_note_of_its_own():
    protocol = {"index": {"kind": "flat", "tried": [{"index": "flat", "p95_ms": 0.4}]}}
    table = ComparisonTable(ROWS, protocol)
    assert "Index chosen from: (index flat, p95_ms 0.4)" in table.text()
    assert "Protocol: index (kind flat)" in table.text()


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_well_formed_escaped_and_carries_the_figures_to_sort_by():
    table = ComparisonTable([variant("<script>x", 0.213)], {"note": "a < b"})
    page = Tags(table.html())
    assert page.open == []
    assert "script" not in [tag for tag, _ in page.seen]
    assert "<script>x" in "".join(page.text)
    assert any(attrs.get("data-sort") == "0.213" for tag, attrs in page.seen if tag == "td")


def test_latex_escapes_what_it_would_read(table):
    assert "mamba\\_s" in table.latex()
    assert "R@5 \\%" in table.latex()


def test_all_formats_are_written_into_the_run_folder(table, tmp_path):
    paths = table.write(tmp_path)
    assert [path.name for path in paths] == [f"comparison.{suffix}" for suffix in ("md", "csv", "html", "tex")]
    assert (tmp_path / "comparison.md").read_text() == table.markdown()
    assert len(list(tmp_path.iterdir())) == 4
