"""Arrays of a .npz read in blocks from the archive: numpy would load an array as a whole, and these are gigabytes."""

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MissingFileError, UserError
from data.foreign.formats import read_npy_header
from data.foreign.unpickle import load_pickle
from data.io import check_file

_BLOCK_BYTES = 32 << 20
_DAMAGE = (  # what zipfile raises where bytes are wrong; RuntimeError is for an encrypted member
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    UnicodeDecodeError,
    EOFError,
    OSError,
    RuntimeError,
)


class Npz:
    """An opened .npz; every error names the file and is one line.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no archive or was cut short.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingFileError(f"{path}: expected a .npz of sequences, got no file; check the path")
        check_file(path, "a .npz of sequences")
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise self._damaged(error) from None
        self.names = [name.removesuffix(".npy") for name in self._archive.namelist() if name.endswith(".npy")]

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def pick(self, *wanted: str) -> str:
        """Return the first of these names that the archive has."""
        for name in wanted:
            if name in self.names:
                return name
        raise UserError(
            f"{self.path}: expected an array named {' or '.join(wanted)}, "
            f"got {', '.join(self.names) or 'none'}; rename it"
        )

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array without reading it."""
        return self._header(name)[0]

    def blocks(self, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first row, rows) of an array of numbers, a few megabytes at a time."""
        shape, dtype = self._header(name)
        if dtype.kind not in "fiu" or not shape:
            raise UserError(f"{self.path}: expected numbers in {name}, got {shape} of {dtype}; convert it first")
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        step = max(1, _BLOCK_BYTES // max(1, row_bytes))
        try:
            with self._archive.open(f"{name}.npy") as file:
                read_npy_header(file, self.path)
                for start in range(0, shape[0], step):
                    num = min(step, shape[0] - start)
                    content = file.read(num * row_bytes)
                    if len(content) != num * row_bytes:
                        raise EOFError(f"{name} ends early")
                    yield start, np.frombuffer(content, dtype).reshape(num, *shape[1:])
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def array(self, name: str) -> NDArray[Any]:
        """Return a whole array of numbers; for the small ones."""
        blocks = [block for _, block in self.blocks(name)]
        return np.concatenate(blocks) if blocks else np.empty(self.shape(name), self._header(name)[1])

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON string in an array; an array of objects goes through the unpickler that runs nothing."""
        try:
            with self._archive.open(f"{name}.npy") as file:
                _, dtype = read_npy_header(file, self.path)
                value = load_pickle(file, self.path) if dtype.hasobject else np.frombuffer(file.read(), dtype)[0]
        except _DAMAGE as error:
            raise self._damaged(error) from None
        text = value.item() if isinstance(value, np.ndarray) else value
        try:
            content = text if isinstance(text, dict) else json.loads(text)
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"{self.path}: expected JSON in {name}, got {error}; write it with json.dumps") from None
        return content if isinstance(content, dict) else {name: content}

    def _header(self, name: str) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
        try:
            with self._archive.open(f"{name}.npy") as file:
                return read_npy_header(file, self.path)
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path}: expected a .npz of sequences, got a truncated or damaged file ({error}); fetch it again"
        )
