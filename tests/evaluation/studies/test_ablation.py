"""The ablation table of a finished run."""

from evaluation.studies.ablation import SETTINGS, main


def test_every_setting_has_a_line_and_the_prior_finds_what_no_model_did(run_folder, capsys):
    assert main([str(run_folder), "--queries", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line.split("  ")[0] for line in lines] == [*SETTINGS, "prior-only"]
    figures = {line.split("  ")[0]: line.split()[-8:] for line in lines}
    assert float(figures["prior-only"][0]) == 100.0
    assert float(figures["full"][1]) > float(figures["no reranker"][1])
    assert all(float(line[-1]) > 0 for name, line in figures.items() if name != "prior-only")


def test_a_folder_without_results_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
