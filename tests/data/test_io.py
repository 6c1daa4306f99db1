from pathlib import Path

import pytest

from data.io import open_array


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x.npy: expected an array of shape \(3,\), got no file; build the"):
        open_array(tmp_path / "x.npy", (3,))
