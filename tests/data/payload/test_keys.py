import numpy as np

from data.payload.keys import KeyIndex


def as_int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_a_key_finds_its_row_in_a_payload_of_any_order() -> None:
    index = KeyIndex(as_int32(2, 0, 1, 0), as_int32(0, 1, 7, 0))
    assert index.rows(as_int32(0, 0, 1, 2), as_int32(0, 1, 7, 0)).tolist() == [3, 1, 2, 0]


def test_an_unknown_key_is_minus_one_also_beyond_both_ends() -> None:
    index = KeyIndex(as_int32(5, 5), as_int32(3, 4))
    assert index.rows(as_int32(0, 5, 9), as_int32(0, 5, 9)).tolist() == [-1, -1, -1]
    assert KeyIndex(as_int32(), as_int32()).rows(as_int32(1), as_int32(1)).tolist() == [-1]
