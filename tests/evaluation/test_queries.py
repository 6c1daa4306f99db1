"""The queries of a run on disk."""

import numpy as np
import pytest

from evaluation.queries import QUERIES_FILE, RunQueries, load_queries, save_queries


@pytest.fixture
def kept(tmp_path):
    """The folder of a run with two queries."""
    windows = np.array([[0, 1], [4, 5]], np.int32)
    save_queries(tmp_path, RunQueries(windows, windows[:, 0], np.float32([0.95, 0.1]), np.array([False, True])))
    return tmp_path


def test_queries_are_read_as_they_were_written(kept):
    found = load_queries(kept)
    assert [path.name for path in kept.iterdir()] == [QUERIES_FILE]
    assert [getattr(found, name).dtype.name for name in found.__dataclass_fields__] == [
        "int32",
        "int32",
        "float32",
        "bool",
    ]
    np.testing.assert_array_equal(found.windows, [[0, 1], [4, 5]])
    assert (len(found), found.known.unit, found.known.novel.tolist()) == (2, "article", [False, True])


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def another(path):
    np.savez(path, windows=np.zeros((2, 2)))


def unequal(path):
    np.savez(path, **dict(np.load(path)) | {"novel": np.zeros(3, bool)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "expected the queries of a run, got no file"),
        (cut, "got a damaged file"),
        (another, "got a damaged file"),
        (unequal, "expected arrays of one length, got {'windows': 2, 'article': 2, 'max_train_cosine': 2, 'novel': 3}"),
    ],
)
def test_what_is_no_queries_is_refused_in_one_line(kept, spoil, message):
    spoil(kept / QUERIES_FILE)
    with pytest.raises(ValueError, match=r"queries.npz: .*; launch the run again$") as caught:
        load_queries(kept)
    assert message in str(caught.value)
