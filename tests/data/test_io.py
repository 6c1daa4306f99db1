from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.io import open_array, replace_folder


def test_writers_of_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    def write(number: int) -> None:
        finished = tmp_path / f"finished-{number}"
        finished.mkdir()
        (finished / "content").write_text(str(number))
        replace_folder(finished, tmp_path / "target")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(300)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]
    assert int((tmp_path / "target/content").read_text()) in range(300)


def test_a_folder_that_cannot_be_moved_says_so(tmp_path: Path) -> None:
    (tmp_path / "finished").mkdir()
    (tmp_path / "target").write_text("a file, not a folder")
    replace_folder(tmp_path / "finished", tmp_path / "target")
    assert (tmp_path / "target").is_dir()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "finished", tmp_path / "target")


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x.npy: expected an array of shape \(3,\), got no file; build the"):
        open_array(tmp_path / "x.npy", (3,))
