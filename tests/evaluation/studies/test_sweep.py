"""The sweep on a finished run."""

import pytest

from evaluation.studies.sweep import main

pytestmark = pytest.mark.usefixtures("predictions_in_this_process")


def test_a_sweep_prints_a_line_for_every_breadth_and_quality_never_falls_with_nprobe(run_folder, capsys):
    assert main(["sweep", str(run_folder), "--kinds", "flat", "ivf_flat", "--queries", "60"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert lines[0][:4] == ["flat", "-", "-", "1.0000"]
    fidelities = [float(line[3]) for line in lines[1:]]
    assert fidelities == sorted(fidelities)
    assert fidelities[-1] == 1.0, "the widest setting reads every cell"
    assert lines[-1][4:6] == lines[0][4:6], "and gives the quality of a flat scan"


def test_a_folder_without_results_is_one_line_and_code_two(tmp_path, capsys):
    assert main(["sweep", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_payload_is_one_line_that_names_the_option(run_folder, capsys):
    assert main(["sweep", str(run_folder), "--payload", "/nowhere"]) == 2
    assert "/nowhere: expected the payload's folder, got none; name it with --payload" in capsys.readouterr().err
