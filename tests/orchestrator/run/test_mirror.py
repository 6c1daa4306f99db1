"""The copy of a run folder: in a folder, and in S3 where moto is installed (`pip install .[cluster]`)."""

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from data.errors import UserError
from data.io import read_json
from orchestrator.run.faults import RunError
from orchestrator.run.ledger import Ledger
from orchestrator.run.mirror import NOTE, Mirror
from tests.servers import served

MODULE = (sys.executable, "-m")
AT = "endpoint_override=127.0.0.1:{port}&scheme=http"  # what pyarrow needs to find it
STATE, RECORDS, BEST = (f"variants/small/{name}" for name in ("last.pt", "metrics.jsonl", "best.pt"))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 of this machine, with the bucket `runs`."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("an S3 of this machine: pip install .[cluster], as make test-cluster does")
    with pytest.MonkeyPatch.context() as environment, served(*MODULE, "moto.server", "-p", "{port}") as port:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "any")
        environment.setenv("AWS_REGION", "us-east-1")
        from pyarrow import fs

        options = AT.format(port=port)
        fs.FileSystem.from_uri(f"s3://runs?{options}&allow_bucket_creation=true")[0].create_dir("runs")
        yield f"s3://runs/{{}}?{options}"


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    """A Google Cloud Storage of this machine, with the bucket `runs`."""
    options = ("--host=127.0.0.1", "--port={port}", "--in-memory", "--default-bucket=runs")
    with served(*MODULE, "gcp_storage_emulator", "start", *options) as port:
        yield f"gs://anonymous@runs/{{}}?{AT.format(port=port)}&retry_limit_seconds=10"


@pytest.fixture(params=["folder", "s3", "gs"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "copies")
    found: str = request.getfixturevalue(request.param).format(tmp_path.name)
    return found


@pytest.fixture
def mirror_of(address: str) -> Callable[[Ledger], Mirror]:
    return lambda ledger: Mirror(address, "trial", ledger)


def run_folder(path: Path) -> Ledger:
    """A claimed run folder with a few records."""
    ledger = Ledger(path)
    ledger.open({"name": "trial"}, {"name": "trial"})
    for name, text in {STATE: "state 1", RECORDS: "record 1\n", BEST: "weights 1"}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return ledger


def put_in_the_way(folder: Path) -> None:
    """Make a mirror fail that could be written before."""
    shutil.rmtree(folder)
    folder.write_text("a file where the folder should be")


def contents(path: Path) -> dict[str, str]:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != NOTE)
    return {file.relative_to(path).as_posix(): file.read_text() for file in files}


def test_a_run_goes_on_elsewhere_from_its_copy(tmp_path: Path, mirror_of: Callable[[Ledger], Mirror]) -> None:
    here, there = run_folder(tmp_path / "here"), Ledger(tmp_path / "there")
    assert mirror_of(here).copy("first") == 6
    assert mirror_of(there).bring_back()
    assert contents(there.path) == contents(here.path)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_folder_named_from_here_comes_back_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Mirror(str(tmp_path / "copies"), "trial", run_folder(tmp_path / "here")).copy("first")
    monkeypatch.chdir(tmp_path)
    assert Mirror("copies", "trial", Ledger(Path("runs/trial"))).bring_back()
    assert contents(tmp_path / "runs" / "trial") == contents(tmp_path / "here")


def test_only_what_has_changed_is_copied_again_and_what_is_gone_is_removed(
    tmp_path: Path, mirror_of: Callable[[Ledger], Mirror]
) -> None:
    here, there = run_folder(tmp_path / "here"), Ledger(tmp_path / "there")
    mirror = mirror_of(here)
    mirror.copy("first")
    assert mirror.copy("first") == 0
    (here.path / RECORDS).write_text("record 1\nrecord 2\n")
    (here.path / BEST).unlink()
    assert mirror.copy("first") == 1
    later = mirror_of(here)  # the next launch knows what was copied
    assert not later.bring_back()
    assert later.copy("second") == 0
    assert mirror_of(there).bring_back()
    assert contents(there.path) == contents(here.path)


def test_a_folder_that_was_overtaken_is_refused(tmp_path: Path, mirror_of: Callable[[Ledger], Mirror]) -> None:
    here, there = run_folder(tmp_path / "here"), Ledger(tmp_path / "there")
    mirror_of(here).copy("first")
    elsewhere = mirror_of(there)
    elsewhere.bring_back()
    (there.path / RECORDS).write_text("record 1\nrecord 2\n")
    elsewhere.copy("second")
    with pytest.raises(UserError, match=r"got one that another run or folder has written since; move .*here away"):
        mirror_of(here).bring_back()
    assert not mirror_of(there).bring_back()


def test_files_of_others_are_refused_and_kept(tmp_path: Path, mirror_of: Callable[[Ledger], Mirror]) -> None:
    here = run_folder(tmp_path / "here")
    mirror = mirror_of(here)
    mirror._make_parent(f"{mirror.base}/letter.txt")
    with mirror.files.open_output_stream(f"{mirror.base}/letter.txt") as stream:
        stream.write(b"dear")
    for act in (Mirror.bring_back, Mirror.move_aside):
        with pytest.raises(UserError, match="expected an empty place or the copy of a run, got files without its mark"):
            act(mirror_of(here))
    assert mirror_of(here).there == {"letter.txt": 4}


def test_a_fresh_run_moves_the_old_copy_aside(tmp_path: Path, mirror_of: Callable[[Ledger], Mirror]) -> None:
    here = run_folder(tmp_path / "here")
    mirror = mirror_of(here)
    mirror.copy("first")
    mirror.move_aside()
    assert mirror_of(here).there == {}
    from pyarrow import fs

    top = mirror.base.rpartition("/")[0]
    kept = [info.path for info in mirror.files.get_file_info(fs.FileSelector(top, recursive=True))]
    assert any(".old-" in path and path.endswith(RECORDS) for path in kept)


def test_a_state_is_never_copied_before_the_records_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run_folder(tmp_path / "here")
    mirror = Mirror(str(tmp_path / "copies"), "trial", here)
    written: list[str] = []
    write = Mirror._write

    def then_the_run_goes_on(self: Mirror, name: str, file: object) -> None:
        written.append(name)
        if name == BEST:  # the trial ends its second epoch while the first is copied
            (here.path / "new").write_text("state 2")
            (here.path / "new").replace(here.path / STATE)
        write(self, name, file)  # type: ignore[arg-type]

    monkeypatch.setattr(Mirror, "_write", then_the_run_goes_on)
    mirror.copy("first")
    assert written.index(RECORDS) < written.index(STATE)
    assert (tmp_path / "copies" / "trial" / STATE).read_text() == "state 1"
    assert mirror.copy("first") == 1
    assert (tmp_path / "copies" / "trial" / STATE).read_text() == "state 2"


def test_an_end_waits_for_the_last_copy(tmp_path: Path) -> None:
    here = run_folder(tmp_path / "here")
    with Mirror(str(tmp_path / "copies"), "trial", here).kept():
        (here.path / RECORDS).write_text("record 1\nrecord 2\n")
    assert (tmp_path / "copies" / "trial" / RECORDS).read_text() == "record 1\nrecord 2\n"
    assert set(read_json(tmp_path / "copies" / "trial" / NOTE)["files"]) == set(contents(here.path))


def test_a_copy_that_fails_is_said_and_ends_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.run.mirror.EVERY_S", 0.01)
    said: list[str] = []
    mirror = Mirror(str(tmp_path / "copies"), "trial", run_folder(tmp_path / "here"), said.append)
    copies = Mock(wraps=mirror.copy)
    monkeypatch.setattr(mirror, "copy", copies)
    put_in_the_way(tmp_path / "copies")
    with (
        pytest.raises(RunError, match=r"expected a whole copy of the run, got .*type the same command again"),
        mirror.kept(),
    ):
        while not said:
            time.sleep(0.01)
        tries = copies.call_count
        while copies.call_count < tries + 3:  # the same fault again is not said again
            time.sleep(0.01)
    assert len(said) == 1 and said[0].startswith(f"warning: mirror {tmp_path / 'copies'}: ")


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_copy(tmp_path: Path) -> None:
    mirror = Mirror(str(tmp_path / "copies"), "trial", run_folder(tmp_path / "here"))
    put_in_the_way(tmp_path / "copies")
    with pytest.raises(ZeroDivisionError), mirror.kept():
        raise ZeroDivisionError


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    here, there = run_folder(tmp_path / "here"), Ledger(tmp_path / "there")
    Mirror(str(tmp_path / "copies"), "trial", here).copy("first")
    mirror = Mirror(str(tmp_path / "copies"), "trial", there)
    mirror.there["../../outside"] = 1
    with pytest.raises(UserError, match=r"expected names inside the run folder, got \.\./\.\./outside"):
        mirror.bring_back()
    assert not there.path.exists()


def test_a_mirror_inside_the_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a place apart from the run folder"):
        Mirror(str(tmp_path), "here", Ledger(tmp_path / "here"))


def test_a_place_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"mirror s3://runs.*: expected a place that answers, got .*; give another mirror"
    ):
        Mirror("s3://runs?endpoint_override=127.0.0.1:9&scheme=http", "trial", Ledger(tmp_path / "here"))


def test_a_fault_that_nobody_thought_of_is_no_silent_end_of_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(str(tmp_path / "copies"), "trial", run_folder(tmp_path / "here"))
    monkeypatch.setattr(mirror, "copy", Mock(side_effect=ZeroDivisionError("no bytes a second")))
    with pytest.raises(RunError, match="got no bytes a second"), mirror.kept():
        pass


def test_a_folder_with_files_of_others_is_not_replaced_by_the_copy(tmp_path: Path) -> None:
    Mirror(str(tmp_path / "copies"), "trial", run_folder(tmp_path / "here")).copy("first")
    there = tmp_path / "there"
    there.mkdir()
    (there / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"there: expected a run folder with its mark, .* got letter.txt without one"):
        Mirror(str(tmp_path / "copies"), "trial", Ledger(there)).bring_back()
    assert contents(there) == {"letter.txt": "dear"}


def test_a_place_that_cannot_be_written_is_refused_before_the_run_and_not_after_it(tmp_path: Path) -> None:
    (tmp_path / "copies").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="expected a place that can be written, got "):
        Mirror(str(tmp_path / "copies"), "trial", Ledger(tmp_path / "here"))


def test_trying_a_place_leaves_nothing_there(tmp_path: Path, mirror_of: Callable[[Ledger], Mirror]) -> None:
    here = Ledger(tmp_path / "here")
    mirror_of(here)
    assert mirror_of(here).there == {}
