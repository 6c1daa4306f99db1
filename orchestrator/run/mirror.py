"""A copy of the run folder in another place, from which another machine can go on: `mirror: s3://bucket/prefix`.

The copy lies in `<mirror>/<experiment's name>`. A thread of the driver looks at the run folder every few seconds and
copies what has changed; the end of a launch waits for the last copy. What was copied stands in `mirror.json`, with a
mark that every launch makes anew: a folder whose mark is not the copy's has been overtaken, and does not write over it.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NoReturn

from data.errors import UserError
from data.io import read_json, replace_folder, replacing, write_json
from data.output import MARKER, is_ours
from orchestrator.run.faults import RunError
from orchestrator.run.ledger import KIND, MADE, Ledger

NOTE = "mirror.json"
EVERY_S = 5.0
_STATE = "last.pt"
_PROBE = "next-vector.tmp"  # by this name it is no part of a copy
_NOT_COPIED = (NOTE, ".best")
"""Our own note; what is just being made."""
_BLOCK = 8 << 20


class Mirror:
    """Copies one run folder to its mirror, and brings it back.

    Args:
        address: `s3://`, `gs://` (with pyarrow's options after `?`), or a folder.
        name: The experiment's name.
        ledger: The run folder.
        say: Prints a line for the person at the terminal.

    Raises:
        UserError: The address means nothing, or the place does not answer.
    """

    def __init__(self, address: str, name: str, ledger: Ledger, say: Callable[[str], None] = print) -> None:
        from pyarrow import fs

        self.address, self.ledger, self.folder, self.say = address, ledger, ledger.path, say
        try:
            if "://" in address:
                self.files, base = fs.FileSystem.from_uri(address)
            else:
                self.files, base = fs.LocalFileSystem(), str(Path(address).absolute())
        except (OSError, ValueError) as error:
            self._refuse("an address that pyarrow knows", error)
        self.base = f"{base.rstrip('/')}/{name}"
        self.is_local = isinstance(self.files, fs.LocalFileSystem)
        if self.is_local and _overlap(Path(self.base), self.folder):
            self._refuse("a place apart from the run folder", self.base)
        self.there = self._list()
        if not ledger.is_complete():  # a complete run may be read where nothing can be written
            self._check_writable()
        self.copied: dict[str, list[int]] = {}  # name: size and time of change of what was copied

    def bring_back(self) -> bool:
        """Make the run folder from its copy where there is a copy and no run; return whether it did.

        Raises:
            UserError: The copy is not ours, not of this run, or another folder has written it since.
        """
        self._check_ours()
        if not self.ledger.is_claimed():
            if "manifest.json" not in self.there:  # the last thing that a first copy writes
                return False
            self.ledger.refuse_foreign()
            self._download()
            return True
        own = read_json(self.folder / NOTE) if (self.folder / NOTE).is_file() else {}
        if "manifest.json" in self.there and own.get("mark") != self._read_json(NOTE).get("mark"):
            self._refuse(
                "the copy that this folder has made",
                "one that another run or folder has written since",
                fix=f"move {self.folder} away to go on from the copy, or give another mirror",
            )
        # What lies there in another size was lost or half written.
        self.copied = {name: stamp for name, stamp in own.get("files", {}).items() if self.there.get(name) == stamp[0]}
        return False

    def move_aside(self) -> None:
        """Move the copy of an older run to `<name>.old-<time>` (`--fresh`); UserError where it is not ours."""
        self.there = self._list()
        self._check_ours()
        aside = f"{self.base}.old-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        for name in self.there:
            self._make_parent(f"{aside}/{name}")
            self.files.move(f"{self.base}/{name}", f"{aside}/{name}")
        self.there, self.copied = {}, {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Copy while the block lasts and once more at its end; RunError when the last copy fails after a good end."""
        stop, mark = threading.Event(), secrets.token_hex(8)
        fault = ""

        def work() -> None:
            nonlocal fault
            last = False
            while not last:
                last = stop.wait(EVERY_S)
                before, fault = fault, ""
                try:
                    self.copy(mark)
                except Exception as error:  # whatever it is, the run matters more, and the end says so
                    fault = _short(error)
                    if fault != before and not last:
                        self.say(f"warning: mirror {self.address}: {fault}; the run goes on, the copy is tried again")

        thread = threading.Thread(target=work, name="mirror", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if fault:
            raise RunError(
                f"mirror {self.address}: expected a whole copy of the run, got {fault}; {self.folder} is whole: "
                "type the same command again to copy it"
            )

    @contextmanager
    def speaking(self, say: Callable[[str], None]) -> Iterator[None]:
        """Say what there is to say in another way while the block lasts."""
        before, self.say = self.say, say
        try:
            yield
        finally:
            self.say = before

    def copy(self, mark: str) -> int:
        """Copy what has changed, remove what is gone, and return how many files were copied; OSError when it fails."""
        if not self.ledger.is_claimed():
            return 0  # the run has not claimed its folder yet
        with ExitStack() as stack:
            changed: dict[str, tuple[IO[bytes], list[int]]] = {}
            # All are opened first: files are replaced and not rewritten, so what is open stays as it is. A state is
            # opened before the records, so that no state is copied whose records are not.
            for name in sorted(self._names(), key=lambda name: not name.endswith(_STATE)):
                try:
                    file = stack.enter_context((self.folder / name).open("rb"))
                except FileNotFoundError:
                    continue
                stamp = _stamp(os.fstat(file.fileno()))
                if self.copied.get(name) != stamp:
                    changed[name] = file, stamp
            known = {*self.copied, *self.there} - {NOTE}
            gone = sorted(name for name in known if not (self.folder / name).is_file())
            if not changed and not gone:
                return 0
            for name in sorted(changed, key=_order):
                opened, stamp = changed[name]
                self._write(name, opened)
                self.copied[name] = stamp
        for name in gone:
            self.files.delete_file(f"{self.base}/{name}")
            self.copied.pop(name, None)
            self.there.pop(name, None)
        self._note(mark)
        return len(changed)

    def _check_writable(self) -> None:
        """Write a file and remove it again: what cannot be written is better known before a long run than after it."""
        try:
            self._write(_PROBE, io.BytesIO(b"can this be written?"))
            self.files.delete_file(f"{self.base}/{_PROBE}")
        except (OSError, ValueError) as error:
            self._refuse("a place that can be written", error)

    def _check_ours(self) -> None:
        """Refuse a place that holds what no run has written."""
        if self.there and (MARKER not in self.there or not is_ours(self._read_json(MARKER), KIND)):
            some = ", ".join(sorted(self.there)[:3])
            self._refuse("an empty place or the copy of a run", f"files without its mark ({some})")

    def _note(self, mark: str) -> None:
        """Write what was copied and the launch's mark, here and there."""
        write_json(self.folder / NOTE, {"mark": mark, "files": self.copied})
        with (self.folder / NOTE).open("rb") as file:
            self._write(NOTE, file)

    def _names(self) -> list[str]:
        """Return every file that the run has made, but what is just being written."""
        files = [file for top in MADE if top not in _NOT_COPIED for file in _files_in(self.folder / top)]
        return [MARKER, *(file.relative_to(self.folder).as_posix() for file in files)]

    def _write(self, name: str, file: IO[bytes]) -> None:
        target = f"{self.base}/{name}"
        beside = f"{target}.tmp" if self.is_local else target  # an object store shows an object when it is whole
        self._make_parent(target)
        with self.files.open_output_stream(beside) as stream:
            shutil.copyfileobj(file, stream, _BLOCK)
        if self.is_local:
            self.files.move(beside, target)

    def _make_parent(self, path: str) -> None:
        if self.is_local:
            self.files.create_dir(path.rpartition("/")[0], recursive=True)

    def _download(self) -> None:
        """Bring the whole copy into a new folder beside the run folder, then give it its name."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-", dir=self.folder.parent)).resolve()
        try:
            for name in self.there:
                file = beside / name
                if beside not in file.resolve().parents:
                    self._refuse("names inside the run folder", name)
                with self.files.open_input_stream(f"{self.base}/{name}") as stream, replacing(file) as out:
                    shutil.copyfileobj(stream, out, _BLOCK)
            stamps = {name: _stamp((beside / name).stat()) for name in self.there if name != NOTE}
            write_json(beside / NOTE, {**self._read_json(NOTE), "files": stamps})
            replace_folder(beside, self.folder)
        except OSError as error:
            self._refuse("a copy that can be read back", error)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        self.copied = stamps

    def _list(self) -> dict[str, int]:
        """Return the files of the copy with their sizes."""
        from pyarrow import fs

        try:
            found = self.files.get_file_info(fs.FileSelector(self.base, recursive=True, allow_not_found=True))
        except (OSError, ValueError) as error:
            self._refuse("a place that answers", error)
        start = len(self.base) + 1
        return {
            info.path[start:]: info.size
            for info in found
            if info.type == fs.FileType.File and not info.path.endswith(".tmp")
        }

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            with self.files.open_input_stream(f"{self.base}/{name}") as stream:
                found = json.loads(stream.read())
        except (OSError, ValueError) as error:
            self._refuse(f"{name} of a run", error)
        return dict(found) if isinstance(found, Mapping) else {}

    def _refuse(self, expected: str, got: object, fix: str = "give another mirror") -> NoReturn:
        raise UserError(f"mirror {self.address}: expected {expected}, got {_short(got)}; {fix}")


def _order(name: str) -> tuple[int, str]:
    """Return the order of copying: our mark first, so that the place is ours; what a relaunch goes on from last."""
    return (0 if name == MARKER else 2 if name.endswith(_STATE) else 3 if name == "manifest.json" else 1), name


def _files_in(path: Path) -> list[Path]:
    found = [path] if path.is_file() else path.rglob("*") if path.is_dir() else []
    return [file for file in found if file.is_file() and not file.name.endswith((".tmp", ".lock"))]


def _stamp(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns]


def _overlap(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one == other or one in other.parents or other in one.parents


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "..."
