import io
from pathlib import Path

import pytest

from data.io import open_array, seal, seal_fault


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x.npy: expected an array of shape \(3,\), got no file; build the"):
        open_array(tmp_path / "x.npy", (3,))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda whole: whole, None),
        (lambda whole: whole[:-10], "it was cut off in its sha256"),
        (lambda whole: whole[:40], "it does not end with its sha256"),
        (lambda whole: b"X" + whole[1:], "its content has another sha256 than it says"),
        (lambda whole: b"", "it does not end with its sha256"),
    ],
    ids=["whole", "cut in the hash", "cut before it", "changed", "empty"],
)
def test_a_sealed_content_tells_what_was_done_to_it(spoil, fault):
    content = io.BytesIO(b"weights " * 100)
    seal(content)
    assert seal_fault(spoil(content.getvalue())) == fault
