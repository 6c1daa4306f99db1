"""Where a command may write, and who writes there now: nothing is replaced or removed that this program did not make.

An output path is absent, empty, or carries our marker. In a folder the marker is the file `.next-vector.json`: format,
version, what the folder is, and the names of what we made in it; only those are replaced or removed. A file carries the
same words inside (`mark`). A lock stands beside what it is for; its holder is named in a file of its own.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data.errors import UserError
from data.io import file_sha256, read_json, replace_folder, write_json

MARKER = ".next-vector.json"
FORMAT, VERSION = "next-vector", 1
_LARGEST_MARKER = 64 << 20
_BLOCKS, _BLOCK_BYTES = 64, 4_096
GONE = "no file"
_ELSEWHERE = "move what is there, or give another path"


def mark(kind: str) -> dict[str, Any]:
    """Return the words by which we know a thing again that we made."""
    return {"format": FORMAT, "version": VERSION, "kind": kind}


def is_ours(found: Any, kind: str) -> bool:
    """Return whether these are our words for a thing of this kind."""
    return isinstance(found, Mapping) and {name: found.get(name) for name in mark(kind)} == mark(kind)


def write_marker(folder: Path, kind: str, names: Iterable[str], *, final: bool = False) -> None:
    """Say in a folder that we made it, and what of it is ours: names of files, or of folders as a whole.

    `final`: the files will not change any more, so their sizes and hashes stand there, too; see `find_damage`.
    """
    files = {name: print_of(folder / name) if final else None for name in sorted(names)}
    write_json(folder / MARKER, {**mark(kind), "files": files})


def find_damage(folder: Path, kind: str, *, fully: bool = False) -> tuple[str, str] | None:
    """Return which file of a finished folder of ours is not as written, and what it is; None: all are, or no marker.

    Sizes and 64 blocks of each file are compared, which takes milliseconds; `fully` reads all of every file.
    """
    for name, expected in (_made(folder, kind) or {}).items():
        if expected is not None and (what := print_differs(folder / name, expected, fully=fully)):
            return name, what
    return None


def print_of(file: Path) -> dict[str, Any]:
    """Return size, hash of 64 blocks and hash of a file, by which damage is found later."""
    return {"bytes": file.stat().st_size, "blocks": _blocks_sha256(file), "sha256": file_sha256(file)}


def print_differs(file: Path, expected: Mapping[str, Any], *, fully: bool = False) -> str:
    """Return in what a file differs from what `print_of` said of it; empty when in nothing."""
    if not file.is_file():
        return GONE
    if file.stat().st_size != expected.get("bytes"):
        return f"{file.stat().st_size} bytes instead of {expected.get('bytes')}"
    if _blocks_sha256(file) != expected.get("blocks") or (fully and file_sha256(file) != expected.get("sha256")):
        return "another content"
    return ""


def _blocks_sha256(file: Path) -> str:
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as opened:
        for number in range(_BLOCKS):
            opened.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
            digest.update(opened.read(_BLOCK_BYTES))
    return digest.hexdigest()


def made_names(folder: Path, kind: str) -> set[str] | None:
    """Return what the folder's marker lists; None where it carries none of this kind."""
    made = _made(folder, kind)
    return None if made is None else set(made)


def _made(folder: Path, kind: str) -> dict[str, Any] | None:
    file = folder / MARKER
    if not file.is_file() or file.stat().st_size > _LARGEST_MARKER:
        return None
    with contextlib.suppress(UserError):
        found = read_json(file)
        if is_ours(found, kind) and isinstance(found.get("files"), dict):
            return dict(found["files"])
    return None


def check_folder(target: Path, kind: str, sources: Iterable[Path] = ()) -> None:
    """Refuse an output folder that holds what we did not make, or that overlaps a source; UserError, one line."""
    check_apart(target, sources)
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UserError(f"{target}: expected a folder to write, got a file; {_ELSEWHERE}")
    if target.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise UserError(f"{target}: expected a folder of its own, got the current folder or one above; name a new one")
    names = made_names(target, kind)
    present = _files_of(target)
    if not present:
        return
    if names is None:
        raise UserError(
            f"{target}: expected an empty folder or a {kind} of this program, got a folder without its mark "
            f"({_some(present)}); {_ELSEWHERE}"
        )
    if foreign := [name for name in present if name != MARKER and not _listed(name, names)]:
        raise UserError(f"{target}: expected only what this program made, got also {_some(foreign)}; {_ELSEWHERE}")


def check_file(target: Path, kind: str, read_mark: Callable[[Path], Any], sources: Iterable[Path] = ()) -> None:
    """Refuse an output file that exists, is not empty and is not ours; `read_mark` returns the words that it carries.

    Raises:
        UserError: it holds what we did not make, is no plain file, or is one of the sources.
    """
    check_apart(target, sources)
    if not os.path.lexists(target):
        return
    if not target.is_file():
        raise UserError(f"{target}: expected a file to write, got something else; {_ELSEWHERE}")
    if target.stat().st_size and not is_ours(_or_none(read_mark, target), kind):
        raise UserError(
            f"{target}: expected a new file or one that this program made ({kind}), got another file; {_ELSEWHERE}"
        )


def check_apart(target: Path, sources: Iterable[Path]) -> None:
    """Refuse an output that is a source, lies in one, or holds one: what is read must not be written."""
    out = Path(os.path.realpath(target))  # Path.resolve raises for links in a circle
    for source in sources:
        given = Path(os.path.realpath(source))
        if out == given or out in given.parents or given in out.parents:
            raise UserError(
                f"{target}: expected an output apart from its source, got {source}; write to a path outside it"
            )


@contextmanager
def output_folder(target: str | Path, kind: str, sources: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block ends well; else nothing is left of it.

    Raises:
        UserError: see `check_folder`.
    """
    target = Path(target)
    check_folder(target, kind, sources)
    target = target.resolve()  # what a link points to is replaced, not the link
    with _one_line(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        write_marker(temporary, kind, [name for name in _files_of(temporary) if name != MARKER], final=True)
        check_folder(target, kind)  # it may have changed since
        replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_made(folder: Path, kind: str) -> None:
    """Remove what a folder's marker lists, and the folder when nothing else is in it; without a marker, nothing."""
    names = made_names(folder, kind)
    if names is None:
        return
    for name in names:
        path = folder / name
        if ".." in path.parts or Path(name).is_absolute():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (folder / MARKER).unlink()
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _remove_if_empty(inner)
    _remove_if_empty(folder)


def move_aside(folder: Path, kind: str, keep: int = 2) -> Path:
    """Rename a folder of ours to `<name>.old-<time>` and return its new place; of these, the last `keep` stay."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = folder.with_name(f"{folder.name}.old-{time}")
    folder.rename(aside)
    for old in sorted(folder.parent.glob(f"{_escaped(folder.name)}.old-*"))[:-keep]:
        remove_made(old, kind)
    return aside


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a path that is about to be written; the system frees it when this process dies.

    Raises:
        UserError: another process holds it; the line says who.
    """
    path = path.resolve()
    if not path.name:
        raise UserError(f"{path}: expected a path of its own to write, got the root of the disk; name another one")
    lock, holder = _lock_files(path)
    with _one_line(path):
        made = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = FileLock(lock, blocking=False)
        try:
            taken.acquire()
        except Timeout:
            raise UserError(
                f"{path}: expected nobody else at work on this {what}, got {_holder(holder)}; wait for it, or stop it"
            ) from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)  # while it is held: filelock takes no lock on a file without a name
        taken.release()
        for parent in made:  # a launch that was refused leaves nothing behind
            _remove_if_empty(parent)


def holder_of(path: Path) -> str | None:
    """Say who holds the lock of a path, see `held`; None where nobody does."""
    path = path.resolve()
    lock, holder = _lock_files(path)
    if not lock.is_file():
        return None
    free = FileLock(lock, blocking=False)
    try:
        free.acquire()
    except Timeout:
        return _holder(holder)
    free.release()
    return None


def forget_dead_holder(path: Path) -> None:
    """Remove the lock that a dead process left on a path; nothing where it is held, or where nothing can be written."""
    lock, holder = _lock_files(path.resolve())
    with contextlib.suppress(OSError):  # filelock's Timeout is one, too
        if lock.is_file():
            with FileLock(lock, blocking=False):
                holder.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)


def _lock_files(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.lock"), path.with_name(f".{path.name}.holder.json")


def _holder(file: Path) -> str:
    with contextlib.suppress(UserError, KeyError, TypeError):
        found = read_json(file)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    return "a process that has only begun"


@contextmanager
def _one_line(target: Path) -> Iterator[None]:
    """Turn the system's refusal to write beside `target` into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{target}: expected a place to write, got {error.strerror or error}; correct the path or its permissions"
        ) from None


def _or_none(read_mark: Callable[[Path], Any], file: Path) -> Any:
    try:
        return read_mark(file)
    except (OSError, ValueError):
        return None


def json_mark(file: Path) -> Any:
    """Return the mark that a JSON file carries under `made_by`."""
    if file.stat().st_size > _LARGEST_MARKER:
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return content.get("made_by") if isinstance(content, dict) else None


def _files_of(folder: Path) -> list[str]:
    """Return all that is in a folder but folders, by relative name, and its empty folders; links are not followed."""
    found = []
    for where, folders, files in os.walk(folder):
        here = Path(where)
        entries = [
            *files,
            *(name for name in folders if (here / name).is_symlink() or not any((here / name).iterdir())),
        ]
        found += [(here / name).relative_to(folder).as_posix() for name in entries]
    return sorted(found)


def _listed(name: str, names: set[str]) -> bool:
    return name in names or any(parent.as_posix() in names for parent in Path(name).parents)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
