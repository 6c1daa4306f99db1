"""What this project may overwrite: nothing but what it made itself.

A folder that it makes holds MARKER, which says the format and lists the files. Such a folder is replaced as a whole,
unless it holds a file that is not listed. Any other folder with something in it is left alone.
"""

import contextlib
import errno
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import UserError
from data.io import read_json, write_json

MARKER = ".made-by-next-vector.json"
VERSION = 1


def check_output(target: Path, kind: str, sources: Iterable[Path | None] = ()) -> None:
    """Refuse an output folder that holds what we did not make, or that overlaps with what is read.

    Args:
        target: the folder to make.
        kind: what it will hold, as its marker says.
        sources: files and folders that are read; None for one that was not given.

    Raises:
        UserError: in one line; nothing was touched.
    """
    check_apart(target, sources)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target}: expected a folder to make, got a file or a link; give another --out")
    if not target.is_dir() or not any(target.iterdir()):
        return
    listed = _listed(target, kind)
    if listed is None:
        raise UserError(
            f"{target}: expected no folder, an empty one, or a {kind} of this program, got a folder of other files; "
            "give another --out, or move it away"
        )
    strange = sorted(files_of(target) - listed)
    if strange:
        raise UserError(
            f"{target}: expected the files of a {kind} alone, got {strange[0]} among them; move it away, or give "
            "another --out"
        )


def check_apart(target: Path, sources: Iterable[Path | None]) -> None:
    """Refuse an output that is one of the sources, lies in one, or holds one; UserError."""
    out = target.resolve()
    for source in filter(None, sources):
        given = source.resolve()
        if out == given or out in given.parents or given in out.parents:
            raise UserError(
                f"{target}: expected an output apart from the source {source}, got one within the other; "
                "give another --out"
            )


def files_of(folder: Path) -> set[str]:
    """Return the files below a folder by their path in it, the marker left out."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    return found - {MARKER}


def mark(folder: Path, kind: str) -> None:
    """Write the marker of a finished folder."""
    write_json(
        folder / MARKER, {"format": f"next-vector {kind}", "version": VERSION, "files": sorted(files_of(folder))}
    )


def _listed(folder: Path, kind: str) -> set[str] | None:
    """Return the files that the folder's marker lists; None without a marker of this kind."""
    if not (folder / MARKER).is_file():
        return None
    try:
        found = read_json(folder / MARKER)
    except UserError:
        return None
    ours = isinstance(found, dict) and found.get("format") == f"next-vector {kind}" and found.get("version") == VERSION
    return {*found["files"]} if ours else None


@contextmanager
def replacing_folder(target: str | Path, kind: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block ends well; else nothing is left of it.

    Raises:
        UserError: `target` holds what we did not make, see `check_output`; before the block begins, or after it.
    """
    target = Path(target)
    check_output(target, kind)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        mark(temporary, kind)
        check_output(target, kind)
        replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def remove_listed(folder: Path, patterns: Iterable[str]) -> None:
    """Remove the files of a folder that match one of the patterns, then the folder if nothing else is in it."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: something else is in it
        folder.rmdir()


def check_file(target: Path, ours: bool, sources: Iterable[Path | None] = ()) -> None:
    """Refuse to write over a file that is not `ours`, over a folder, and over a source; UserError."""
    check_apart(target, sources)
    if target.exists() and not ours:
        raise UserError(
            f"{target}: expected no file, or one that this command wrote, got another one; give another --out"
        )


def is_json_of(target: Path, format_name: str) -> bool:
    """Return whether a file is JSON whose `format` is this one."""
    try:
        found = json.loads(target.read_text(encoding="utf-8")) if target.stat().st_size < 100_000_000 else None
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == format_name
