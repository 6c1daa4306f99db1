"""Read pickled numpy data from strangers without running a line of theirs.

A pickle is a program: it may name any function and call it. Here it may name only what numpy needs to describe an array
or a number. Even these names lead to the small stand-ins below and never to numpy's own unpickling code. They accept
plain numbers, strings and lists, and refuse the rest. So nothing that the file asks for is imported or called.

Covered: code execution through any global, through __reduce__, __setstate__, extension codes and persistent ids, and
forged dtypes; and, on Linux, a few bytes that ask for gigabytes (a number of a remembered object is the size of a list
in Python's own reader). Not covered: a file that is itself too large for the memory.
"""

import os
import pickle
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError

_ADMITTED = "numpy arrays and numbers, dict, list, tuple, str, int and float"
_NUMPY_CORES = ("numpy.core", "numpy._core")
_PLAIN_DTYPE = re.compile(r"[<>|=]?[biufSUO]\d{0,6}")

_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


_GROWTH, _LEAST_BYTES = 32, 1 << 30
"""What a pickle may take: so many times its bytes (the smallest objects grow most), and this in any case."""


class RefusedError(ValueError):
    """The file asks for something that data do not need; the message is what it asked for."""


def load_pickle(file: IO[bytes], where: Path) -> Any:
    """Read one pickled object of plain data; arrays come as numpy arrays once passed through `plain`.

    Raises:
        UserError: the file asks for anything but plain data, or is damaged.
    """
    try:
        with _memory_at_most(_LEAST_BYTES + _GROWTH * _size(file)):
            return plain(_PlainUnpickler(file).load())
    except RefusedError as error:
        raise UserError(
            f"{where}: expected {_ADMITTED} only, got a request for {error}; nothing of it ran, do not trust the file"
        ) from None
    except _DAMAGE as error:
        raise UserError(
            f"{where}: expected pickled data, got a damaged file ({type(error).__name__}: {error}); fetch it again"
        ) from None


def _size(file: IO[bytes]) -> int:
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


@contextmanager
def _memory_at_most(more_bytes: int) -> Iterator[None]:
    """Let this process take only so much more address space, where the system tells how much it has: on Linux."""
    if not sys.platform.startswith("linux"):
        yield
        return
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in (before, most) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([*limits, taken + more_bytes]), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def plain(value: Any) -> Any:
    """Replace the stand-ins of a loaded object by arrays; containers are changed in place where that is possible."""
    return _Plain().of(value)


_UNFINISHED = object()


class _Plain:
    """Visits each container once: sixty tuples, each of the next one twice, are 2**60 by their paths."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # with the container, whose number is its own only while it lives

    def of(self, value: Any) -> Any:
        if isinstance(value, str | int | float):  # most values of a payload, so they are asked for first
            return value
        if isinstance(value, _Array):
            return value.finished()
        if isinstance(value, _Dtype | type):
            raise RefusedError(f"a bare {value!r}")
        if not isinstance(value, dict | list | tuple):
            return value
        if (known := self._known.get(id(value))) is None:
            self._known[id(value)] = (value, _UNFINISHED)
            result = self._of_container(value)
            self._known[id(value)] = (value, result)
            return result
        if known[1] is _UNFINISHED:
            raise ValueError("an object contains itself")
        return known[1]

    def _of_container(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self.of(item) for item in value)
        if isinstance(value, dict):
            for key in value:
                value[key] = self.of(value[key])
        else:
            value[:] = [self.of(item) for item in value]
        return value


class _PlainUnpickler(pickle.Unpickler):
    """Knows the few names below; every other name ends the reading before anything is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy" and name in ("ndarray", "dtype"):
            return {"ndarray": _Array, "dtype": _Dtype}[name]
        core, _, part = module.rpartition(".")
        if core in _NUMPY_CORES and (part, name) in _NUMPY_FUNCTIONS:
            return _NUMPY_FUNCTIONS[part, name]
        if (module, name) == ("_codecs", "encode"):
            return _LATIN1
        raise RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError(f"the persistent id {pid!r}")


class _Dtype:
    """Stands for numpy.dtype: numbers, strings and objects by their code; fields and other forms are refused."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str):
            raise RefusedError(f"numpy.dtype of {code!r}")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Take the byte order from the state (version, order, subarray, names, fields, size, alignment, flags, ...)."""
        _, order, subarray, names, fields, *_ = state
        if order not in ("<", ">", "|", "=") or subarray is not None or names is not None or fields is not None:
            raise RefusedError(f"a structured numpy.dtype {self.code!r}")
        if order in "<>":
            self.code = order + self.code.lstrip("<>|=")

    def resolve(self) -> "np.dtype[Any]":
        """Return the dtype, made by numpy from its code alone."""
        if not _PLAIN_DTYPE.fullmatch(self.code):
            raise RefusedError(f"numpy.dtype {self.code!r}")
        return np.dtype(self.code)


class _Array:
    """Stands for numpy.ndarray while its state is read."""

    def __init__(self, *_: Any) -> None:
        self._array: NDArray[Any] | None = None
        self._objects: tuple[tuple[int, ...], list[Any]] | None = None

    def __setstate__(self, state: Any) -> None:
        """Build the array from the state (version, shape, dtype, is_fortran, data); numpy's format since 1.0."""
        *_, shape, dtype, is_fortran, content = state
        self._fill(shape, dtype, bool(is_fortran), content)

    def _fill(self, shape: Any, dtype: Any, is_fortran: bool, content: Any) -> None:
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise RefusedError("an array without dtype or shape")
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise RefusedError(f"an array of shape {shape!r}")
        resolved = dtype.resolve()
        if resolved.hasobject:
            if not isinstance(content, list):
                raise RefusedError("an array of objects that is no list")
            self._objects = (shape, content)
        else:
            if not isinstance(content, bytes | bytearray):
                raise RefusedError("an array of numbers that is no bytes")
            flat = np.frombuffer(content, resolved)
            self._array = flat.reshape(shape, order="F" if is_fortran else "C")

    def finished(self) -> Any:
        """Return the array; an array of objects is returned as such, its items made plain."""
        if self._objects is not None:
            shape, items = self._objects
            result = np.empty(len(items), object)
            for position, item in enumerate(items):
                result[position] = plain(item)
            return result.reshape(shape)
        if self._array is None:
            raise RefusedError("an array without content")
        return self._array


def _reconstruct(_class: Any, _shape: Any, _code: Any) -> _Array:
    if _class is not _Array:
        raise RefusedError(f"an array of class {_class!r}")
    return _Array()


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stand for numpy's form of an array in pickle protocol 5."""
    array = _Array()
    array._fill(shape, dtype, order == "F", content)
    return array


def _scalar(dtype: Any, content: Any = b"") -> int | float | bool | str:
    """Stand for a numpy number or text; it comes out as Python's."""
    resolved = dtype.resolve() if isinstance(dtype, _Dtype) else None
    if resolved is None or resolved.kind not in "biufU" or not isinstance(content, bytes):
        raise RefusedError("a numpy number of another kind")
    if resolved.kind == "U":
        return content.decode("utf-32-be" if resolved.str[0] == ">" else "utf-32-le")
    value: int | float | bool = np.frombuffer(content, resolved, count=1)[0].item()
    return value


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand for how pickle protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


class _StandIn:
    """A function that a pickle can call and cannot alter (the BUILD opcode sets attributes of plain functions)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise RefusedError("a change of a function")


_LATIN1 = _StandIn(_encode)
_NUMPY_FUNCTIONS = {
    ("multiarray", "_reconstruct"): _StandIn(_reconstruct),
    ("multiarray", "scalar"): _StandIn(_scalar),
    ("numeric", "_frombuffer"): _StandIn(_frombuffer),
}
