"""The run folder's files."""

import numpy as np
import pytest

from data.io import write_json
from evaluation.results import load_all_arrays, load_arrays, load_config, load_results, save_arrays

ANSWER = {
    "metrics": {"r@5": 0.5},
    "ranks": np.array([1, 0], np.int32),
    "ranks_pool": np.array([1, 0], np.int32),
    "cosine": np.array([0.5, 0.25], np.float32),
    "neighbours": np.array([[1, 2], [3, -1]], np.int32),
}


def test_arrays_come_back_as_they_went_in(tmp_path):
    save_arrays(tmp_path / "mamba_s", ANSWER)
    again = load_arrays(tmp_path / "mamba_s")
    assert set(again) == {"ranks", "ranks_pool", "cosine", "neighbours"}
    for name, array in again.items():
        np.testing.assert_array_equal(array, ANSWER[name])
        assert array.dtype == ANSWER[name].dtype
    assert len(list(tmp_path.rglob("*.*"))) == 4


def test_rows_without_arrays_are_left_out(tmp_path):
    save_arrays(tmp_path / "variants" / "mamba_s", ANSWER)
    save_arrays(tmp_path / "variants" / "mamba_xl", {"ranks": ANSWER["ranks"]})
    assert set(load_all_arrays(tmp_path, [{"variant": "mamba_s"}, {"variant": "mamba_xl"}])) == {"mamba_s"}


def test_missing_files_are_named_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ranks\.npy: expected .*; only rows"):
        load_arrays(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"results\.json: expected .*; let the run finish"):
        load_results(tmp_path)


def test_results_without_rows_and_damaged_ones_are_refused(tmp_path):
    write_json(tmp_path / "results.json", {"protocol": {}})
    with pytest.raises(ValueError, match=r"results\.json: expected the keys .* got no rows"):
        load_results(tmp_path)
    (tmp_path / "results.json").write_text('{"protocol"')
    with pytest.raises(ValueError, match=r"results\.json: expected JSON, got .*; restore the file"):
        load_results(tmp_path)


def test_a_run_without_configuration_has_an_empty_one_and_a_damaged_one_is_named(tmp_path):
    assert load_config(tmp_path) == {}
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config\.yaml: expected a run's configuration, got .*; restore the file"):
        load_config(tmp_path)
