"""The one way to write, read and digest files: whole or not at all, JSON without NaN, errors that say what to do.

A file is written beside its place under a name of its own, flushed to the disk, then renamed: a reader, or a relaunch
after a crash, finds the old file or the new one, never half of one.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from data.errors import MissingFileError, UserError

LARGEST_JSON = 64 << 20


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that takes the place of `path` when the block ends well; else nothing is left of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())  # mkstemp makes it private
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_bytes(path: str | Path, content: bytes | NDArray[Any]) -> None:
    """Write a whole file at once."""
    with replacing(path) as file:
        file.write(content if isinstance(content, bytes) else content.data)


def write_text(path: str | Path, text: str) -> None:
    """Write a whole text file at once, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON; see `plain` for what becomes of NaN and numpy's numbers."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def check_file(path: str | Path, what: str, most_bytes: int | None = None) -> None:
    """Refuse what cannot be read as a whole before it is opened: a pipe would block, a device would never end.

    Raises:
        MissingFileError: there is nothing.
        UserError: it is no plain file, or larger than `most_bytes`.
    """
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: expected {what}, got no file; check the path") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected {what}, got {error}; check the path") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: expected {what}, got no plain file; name a file")
    if most_bytes is not None and found.st_size > most_bytes:
        raise UserError(
            f"{path}: expected {what} of at most {most_bytes:,} bytes, got {found.st_size:,}; is it another?"
        )


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no JSON.
    """
    path = Path(path)
    check_file(path, "a JSON file", LARGEST_JSON)
    try:
        content = path.read_bytes()
        found = json.loads(content)
        if b"\\ud" in content.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return found
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, got {error}; restore the file, or make it again") from None


def append_json_line(path: str | Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as one line, after the last whole one."""
    cut_torn_line(path)
    with Path(path).open("ab") as file:
        file.write((json.dumps(plain(record), allow_nan=False) + "\n").encode())


def cut_torn_line(path: str | Path) -> None:
    """Take off a last line that a crash cut short, or give it its end where only that is missing."""
    path = Path(path)
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        last = content.rpartition(b"\n")[2]
        if _is_torn(last):
            file.truncate(len(content) - len(last))
        else:
            file.write(b"\n")


def read_json_lines(path: str | Path, *, ended: bool = False) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a missing file is empty.

    A last line that a crash cut short is left out, unless `ended` says that whoever wrote the file has come to its end.

    Raises:
        UserError: a line is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        return []
    check_file(path, "JSON lines", LARGEST_JSON)
    return parse_json_lines(path.read_bytes(), str(path), ended=ended)


def parse_json_lines(content: bytes, where: str = "line", *, ended: bool = False) -> list[dict[str, Any]]:
    """Return the objects in the content of a JSON-lines file, see `read_json_lines`."""
    records: list[dict[str, Any]] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == len(lines) and not ended and _is_torn(line)):
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            got = "one that was cut short" if _is_torn(line) else "another line"
            raise UserError(f"{where}:{number}: expected a JSON object, got {got}; restore the file")
        records.append(record)
    return records


def _is_torn(line: bytes) -> bool:
    """Return whether a line begins as a JSON object and does not come to its end."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line.startswith(b"{")
    return False


def plain(value: Any) -> Any:
    """Return values that every JSON reader takes: containers as dict and list, numpy's numbers as Python's.

    NaN and infinity become None, since JSON has no words for them.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_SEAL = b"\nsha256 "


def seal(content: io.BytesIO) -> None:
    """Append a content's own sha256 to it, in place: it may be gigabytes."""
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    content.seek(0, os.SEEK_END)
    content.write(_SEAL + digest.encode())


def seal_fault(whole: bytes) -> str | None:
    """Return in what a content is not as `seal` made it; None: in nothing."""
    content, seal = memoryview(whole)[: -len(_SEAL) - 64], whole[-len(_SEAL) - 64 :]
    if seal == _SEAL + hashlib.sha256(content).hexdigest().encode():
        return None
    if seal.startswith(_SEAL):
        return "its content has another sha256 than it says"
    return "it was cut off in its sha256" if _SEAL in seal else NO_SEAL


NO_SEAL = "it does not end with its sha256"
"""Where a file was cut off before, or was never sealed."""


def file_sha256(path: str | Path) -> str:
    """Return the digest of a file's bytes, read piece by piece: 0.7 s a GiB."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_folder(temporary: Path, target: Path) -> None:
    """Move a finished folder into place, whatever is there, even while another process does the same.

    A folder that is not empty cannot be replaced, so it steps aside; maps that others hold of its files stay valid.
    """
    temporary.chmod(0o755)  # mkdtemp makes it private
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        for attempt in itertools.count():
            with contextlib.suppress(FileNotFoundError):
                target.replace(aside / str(attempt))
            try:
                temporary.replace(target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another process put its folder there in between
    finally:
        shutil.rmtree(aside)


def open_array(file: Path, shape: tuple[int, ...]) -> Any:
    """Map one array read-only and check its shape; numpy itself notices a file that is shorter than its header says."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MissingFileError(
            f"{file}: expected an array of shape {shape}, got no file; build the payload again"
        ) from None
    except (ValueError, EOFError, OSError, TypeError) as error:
        raise UserError(
            f"{file}: expected an array of shape {shape}, got a damaged file ({error}); build the payload again"
        ) from error
    if array.shape != shape:
        raise UserError(f"{file}: expected shape {shape}, got {array.shape}; build the payload again")
    return array
