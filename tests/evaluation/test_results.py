"""The run folder's files."""

import json

import numpy as np
import pytest

from evaluation.results import load_all_arrays, load_arrays, load_results, plain, save_arrays, save_results

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
    ranks = np.load(tmp_path / "mamba_s" / "ranks.npy")
    assert ranks.dtype == np.int32
    assert not list(tmp_path.rglob("*.part"))


def test_rows_without_arrays_are_left_out(tmp_path):
    save_arrays(tmp_path / "variants" / "mamba_s", ANSWER)
    save_arrays(tmp_path / "variants" / "mamba_xl", {"ranks": ANSWER["ranks"]})
    assert set(load_all_arrays(tmp_path, [{"variant": "mamba_s"}, {"variant": "mamba_xl"}])) == {"mamba_s"}


def test_missing_files_are_named_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ranks\.npy: expected .*; only rows"):
        load_arrays(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"results\.json: expected .*; let the run finish"):
        load_results(tmp_path)


def test_results_without_rows_are_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"protocol": {}}')
    with pytest.raises(ValueError, match=r"results\.json: expected the keys .* got no rows"):
        load_results(tmp_path)


def test_undefined_numbers_become_null_and_numpy_becomes_plain(tmp_path):
    results = {"protocol": {}, "rows": [{"eff@5": float("nan"), "r@5": np.float32(0.5), "ci": {"r@5": (0.1, np.inf)}}]}
    save_results(tmp_path, results)
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == [
        {"eff@5": None, "r@5": 0.5, "ci": {"r@5": [0.1, None]}}
    ]
    assert load_results(tmp_path)["protocol"] == {}


def test_plain_keeps_booleans_and_text():
    assert plain({"a": True, "b": "x", "c": np.bool_(False), 1: None}) == {"a": True, "b": "x", "c": False, "1": None}
