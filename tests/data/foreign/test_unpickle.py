"""Hostile pickles: whatever they ask for is refused by name, and a witness file shows that nothing of them ran."""

import io
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import UserError
from data.foreign.unpickle import load_pickle

WHERE = Path("payload.npy")


def loaded(value: Any, protocol: int = 4) -> Any:
    return load_pickle(io.BytesIO(pickle.dumps(value, protocol=protocol)), WHERE)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_come_back_as_they_were(protocol: int) -> None:
    value = {
        "id": ("text é", {"article_index": 3, "chunk_index": np.int64(4), "score": np.float32(0.5)}, [1.5, None, True]),
        "vector": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        "big": np.array([1, 2], ">i4"),
        "strings": np.array(["a", "bc"]),
        "objects": np.array([{"x": np.ones(2)}, None], object),
    }
    found = loaded(value, protocol)
    assert found["id"] == ("text é", {"article_index": 3, "chunk_index": 4, "score": 0.5}, [1.5, None, True])
    assert type(found["id"][1]["chunk_index"]) is int
    for name in ("vector", "fortran", "big", "strings"):
        np.testing.assert_array_equal(found[name], value[name])
        assert found[name].dtype == value[name].dtype
    assert found["objects"][0]["x"].tolist() == [1.0, 1.0]
    assert found["objects"][1] is None


@pytest.mark.parametrize("text", ["Übung 1", "", "a\0b", "😀"])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_text_of_numpy_comes_as_pythons(text: str, protocol: int) -> None:
    (found,) = loaded([np.str_(text)], protocol)
    assert found == text and type(found) is str


class Reduced:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (subprocess.Popen, "(subprocess|commands).Popen"),
        (eval, "builtins.eval|__builtin__.eval"),
        (getattr, "builtins.getattr|__builtin__.getattr"),
        (np.load, "numpy.load"),
        (np.fromfile, r"numpy\.\S*fromfile"),
    ],
)
def test_a_request_for_any_function_is_refused_by_its_name_and_nothing_runs(
    function: Any, name: str, protocol: int, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    command = f"open({str(witness)!r}, 'w')" if function is eval else f"touch {witness}"
    with pytest.raises(
        ValueError, match=rf"payload.npy: expected numpy arrays .* got a request for ({name});"
    ) as caught:
        loaded({"id": ("text", {}, Reduced(function, command))}, protocol)
    assert "\n" not in str(caught.value)
    assert not witness.exists()


class Remembered:
    def __init__(self) -> None:
        self.ran = False

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("ran")


def test_a_class_of_this_very_program_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got a request for \S*test_unpickle.Remembered;"):
        loaded(Remembered())


def test_a_nested_name_cannot_reach_beyond_the_admitted_ones() -> None:
    attack = b"\x80\x04\x8c\x05numpy\x8c\x14ndarray.__subclasses\x93."
    with pytest.raises(ValueError, match=r"got a request for numpy.ndarray.__subclasses;"):
        load_pickle(io.BytesIO(attack), WHERE)


def test_the_functions_behind_the_admitted_names_cannot_be_altered() -> None:
    # GLOBAL numpy._core.multiarray.scalar, then BUILD with a state that sets attributes
    attack = b"\x80\x02cnumpy._core.multiarray\nscalar\n}X\x04\x00\x00\x00evilK\x01sb."
    with pytest.raises(ValueError, match="got a request for a change of a function;"):
        load_pickle(io.BytesIO(attack), WHERE)


def array_with(dtype: Any, content: Any, shape: Any = (1,)) -> Reduced:
    from numpy._core.multiarray import _reconstruct

    return Reduced(_reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (array_with(np.dtype([("a", "O")]), b"\0" * 8), "a structured numpy.dtype"),
        (array_with(np.dtype("O"), b"\0" * 8), "an array of objects that is no list"),
        (array_with(np.dtype("f4"), [1]), "an array of numbers that is no bytes"),
        (array_with("f4", b"\0" * 4), "an array without dtype or shape"),
        (array_with(np.dtype("f4"), b"\0" * 4, shape=(-1,)), r"an array of shape \(-1,\)"),
        (array_with(np.dtype("V8"), b"\0" * 8), "numpy.dtype 'V8'"),
        (np.ndarray, "a bare <class"),
        (np.dtype("f4"), "a bare"),
    ],
)
def test_forged_arrays_are_refused_before_numpy_sees_them(attack: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"got a request for {message}"):
        loaded({"vector": attack})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04",
        b"not a pickle",
        pickle.dumps({"a": np.ones(9)}, 4)[:-20],
        pickle.dumps(array_with(np.dtype("f4"), b"\0" * 3), 4),
        b"\x80\x04]\x94h\x00a.",  # a list that contains itself
        b"\x80\x04\x82\x01.",  # an extension code
    ],
)
def test_a_damaged_file_is_one_line(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"payload.npy: expected pickled data, got a damaged file") as caught:
        load_pickle(io.BytesIO(content), WHERE)
    assert "\n" not in str(caught.value)


def test_a_persistent_id_is_refused() -> None:
    with pytest.raises(ValueError, match="got a request for the persistent id 'x'"):
        load_pickle(io.BytesIO(b"Px\n."), WHERE)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_few_bytes_that_ask_for_gigabytes_are_damage():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(UserError, match="damaged"):
        load_pickle(io.BytesIO(b"\x80\x02]r\xff\xff\xff\x7f."), WHERE)  # an empty list, remembered as number 2**31 - 1
    assert resource.getrlimit(resource.RLIMIT_AS) == before
