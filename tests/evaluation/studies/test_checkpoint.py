"""The command line that judges one checkpoint."""

import json
import re
import shutil

import numpy as np
import pytest

from evaluation.queries import load_queries
from evaluation.studies.checkpoint import _gates, main

LINE = re.compile(
    r"\[EVAL\] Contain@20=(0\.\d{3}) Contain@50=(0\.\d{3}) R@1=(0\.\d{3}) R@5=(0\.\d{3}) R@10=(0\.\d{3}) "
    r"Eff@5=(\d\.\d{3}) P95=(\d+\.\d\d)ms truth->payload_cos\(mean=(\d\.\d{3}), p5=(\d\.\d{3})\)"
)


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


@pytest.fixture
def checkpoint(run_folder):
    return run_folder / "variants" / "mamba_s" / "best.pt"


def test_a_checkpoint_in_a_run_brings_everything_with_it_and_gives_the_runs_figures(run_folder, checkpoint, capsys):
    code, out, _ = run(capsys, "--checkpoint", checkpoint)
    assert code == 0
    figures = LINE.fullmatch(out[0]).groups()
    rows = json.loads((run_folder / "results.json").read_text())["rows"]
    row = next(row for row in rows if row["variant"] == "mamba_s")
    expected = [row[name] for name in ("contain@20", "contain@50", "r@1", "r@5", "r@10", "eff@5")]
    assert [float(figure) for figure in figures[:6]] == pytest.approx(expected, abs=0.0006)
    assert figures[7:] == ("1.000", "1.000")
    assert out[1:] == [f"pass  r@5 >= 0.01: got {row['r@5']:.4g}, limit 0.01"]


@pytest.mark.usefixtures("predictions_in_this_process")
def test_gates_of_an_epoch_may_be_relative_to_a_baseline_on_the_same_queries(checkpoint, capsys, tmp_path):
    code, out, _ = run(capsys, "--checkpoint", checkpoint, "--epoch", 4, "--limit", 30, "--out", tmp_path / "x.json")
    assert code == 0
    assert [line.split()[:2] for line in out[1:]] == [["pass", "r@5"], ["pass", "contain@50"]]
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["metrics"]["n_queries"] == 30
    assert content["metrics"]["index"]["kind"] == "flat"
    assert [gate["passed"] for gate in content["gates"]] == [True, True]


@pytest.mark.usefixtures("predictions_in_this_process")
def test_a_failed_gate_is_code_one(checkpoint, capsys):
    code, out, _ = run(capsys, "--checkpoint", checkpoint, "--epoch", 8, "--limit", 20)
    assert code == 1
    assert out[1].startswith("FAIL  r@5 >= 0.99: got ")


@pytest.mark.usefixtures("predictions_in_this_process")
def test_the_original_files_and_gates_are_read_outside_a_run(run_folder, checkpoint, capsys, tmp_path):
    from data.payload.store import open_payload

    payload = open_payload(json.loads((run_folder / "results.json").read_text())["protocol"]["payload_path"])
    vectors = np.array(payload.vectors)
    entries = {
        f"id{row}": (
            payload.text(row),
            {"article_index": int(payload.article_index[row]), "chunk_index": int(payload.chunk_index[row])},
            vectors[row],
        )
        for row in range(payload.num_rows)
    }
    np.save(tmp_path / "payload.npy", np.array(entries, dtype=object), allow_pickle=True)
    windows = load_queries(run_folder).windows
    np.savez(
        tmp_path / "eval.npz",
        contexts=vectors[windows[:, :-1]],
        targets=vectors[windows[:, -1]],
        truth_keys=np.stack([payload.article_index[windows[:, -1]], payload.chunk_index[windows[:, -1]]], axis=1),
    )
    shutil.copy(checkpoint, tmp_path / "best.pt")
    files = ["--payload", tmp_path / "payload.npy", "--eval", tmp_path / "eval.npz"]
    code, out, err = run(capsys, "--checkpoint", tmp_path / "best.pt", *files, "--index", "flat", "--epoch", 4)
    assert err == ""
    assert code == 1
    assert LINE.fullmatch(out[0])[4] == f"{json.loads((run_folder / 'results.json').read_text())['rows'][0]['r@5']:.3f}"
    assert [line.split(":")[0] for line in out[1:]] == [
        "pass  contain@50 >= 0.55",
        "FAIL  eff@5 >= 0.65",
        "FAIL  r@5 >= 0.35",
        "pass  p95_ms <= 2.0",
    ]


def test_wrong_input_is_one_line_and_code_two(checkpoint, capsys, tmp_path):
    shutil.copy(checkpoint, tmp_path / "best.pt")
    cases = [
        (["--checkpoint", tmp_path / "none.pt"], "none.pt: expected a checkpoint, got no file"),
        (["--checkpoint", tmp_path / "best.pt"], "--payload: expected a payload, got none"),
        (["--checkpoint", checkpoint, "--gate", "r@5 > 1"], "gate: 'r@5 > 1': expected 'metric >= number'"),
        (["--checkpoint", checkpoint, "--gate", "r@5 >= baseline.gpt"], "baseline.gpt: expected one of last_vector"),
    ]
    for arguments, message in cases:
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_a_damaged_checkpoint_is_one_line_from_the_other_process(run_folder, checkpoint, capsys, tmp_path):
    copied = shutil.copytree(run_folder, tmp_path / "run")
    path = copied / "variants" / "mamba_s" / "best.pt"
    path.write_bytes(path.read_bytes()[:200])
    code, _, err = run(capsys, "--checkpoint", path)
    assert code == 2
    assert err.count("\n") == 1
    assert "best.pt" in err


def test_an_epoch_without_a_smoke_evaluation_is_refused():
    config = {"smoke": {"epochs": [2, 4]}, "gates": {"smoke": [{"epoch": 2, "continue_if": ["r@5 >= 0.1"]}]}}
    assert _gates(config, 2) == ("r@5 >= 0.1",)
    assert _gates(config, 4) == ()
    for given in (config, {}):
        with pytest.raises(ValueError, match=r"--epoch: expected a smoke epoch \(.*\), got 99; leave it out"):
            _gates(given, 99)
