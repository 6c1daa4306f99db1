"""The ablation table of a finished run."""

import shutil

import pytest

from evaluation.studies.ablation import WITHOUT, main

pytestmark = pytest.mark.usefixtures("predictions_in_this_process")


@pytest.fixture
def ablation(run_folder, tmp_path, capsys):
    """Return the first line and the figures by setting, for a run with these further lines of configuration."""

    def run(configuration):
        shutil.copytree(run_folder, tmp_path / "run")
        with (tmp_path / "run" / "config.yaml").open("a") as file:
            file.write(configuration)
        assert main([str(tmp_path / "run"), "--queries", "50"]) == 0
        first, _, _, *lines = capsys.readouterr().out.splitlines()
        return first, {line.split("  ")[0]: line.split()[-8:] for line in lines}

    return run


def test_every_setting_has_a_line_and_the_prior_finds_what_no_model_did(ablation):
    first, figures = ablation("")
    assert first.endswith("50 queries, flat index, full: the default (the run has none)")
    assert list(figures) == ["no reranker", "full", *WITHOUT, "prior-only"]
    assert float(figures["prior-only"][0]) == 100.0
    assert float(figures["full"][1]) > float(figures["without any position"][1])
    assert float(figures["full"][1]) > float(figures["no reranker"][1])
    assert all(float(line[-1]) > 0 for name, line in figures.items() if name != "prior-only")


def test_full_is_the_reranker_of_the_run(ablation):
    first, figures = ablation(
        "rerank: {k_local: 0, mmr_lambda: 1.0, same_article: 0.0, sequence: 0.0, directional: 0.0}\n"
    )
    assert first.endswith("full: the run's")
    assert figures["full"][:7] == figures["no reranker"][:7]  # a reranker of which nothing is left


def test_a_folder_without_results_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
