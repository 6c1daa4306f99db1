"""What a command may write over, and who may write at one time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import build, embed
from data.errors import UserError
from data.output import (
    MARKER,
    check_file,
    find_damage,
    forget_dead_holder,
    held,
    json_mark,
    mark,
    output_folder,
    remove_made,
    write_marker,
)
from tests.data.helpers import MakePayload, unit_rows


def write(target: Path, name: str = "a.bin") -> None:
    with output_folder(target, "payload") as folder:
        (folder / name).write_bytes(b"made")


def test_a_folder_of_ours_is_replaced_and_carries_its_marker(tmp_path: Path) -> None:
    write(tmp_path / "out")
    write(tmp_path / "out", "b.bin")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [MARKER, "b.bin", "out"]
    marker = json.loads((tmp_path / "out" / MARKER).read_text())
    assert (marker["format"], marker["version"], list(marker["files"])) == ("next-vector", 1, ["b.bin"])


@pytest.mark.parametrize(
    "marker", [None, {}, {"format": "webpack", "version": 1}, {**mark("run"), "files": {}}], ids=str
)
def test_a_folder_without_our_marker_is_refused_and_left_as_it_is(tmp_path: Path, marker: Any) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    if marker is not None:
        (tmp_path / MARKER).write_text(json.dumps(marker))
    with pytest.raises(UserError, match=r"expected an empty folder or a payload of this program, got .*thesis\.txt"):
        write(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_a_file_that_somebody_put_into_our_folder_is_named_and_kept(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out/inner").mkdir()
    (tmp_path / "out/inner/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"expected only what this program made, got also inner/notes\.txt; move"):
        write(tmp_path / "out")
    remove_made(tmp_path / "out", "payload")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["inner", "notes.txt"]


@pytest.mark.parametrize("names", [["../thesis.txt"], ["/thesis.txt"], ["a/../../thesis.txt"]], ids=str)
def test_a_marker_reaches_nothing_outside_its_folder(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    (tmp_path / "out").mkdir()
    write_marker(
        tmp_path / "out", "payload", [name.replace("/thesis", f"{tmp_path}/thesis", name[0] == "/") for name in names]
    )
    remove_made(tmp_path / "out", "payload")
    assert (tmp_path / "thesis.txt").is_file()


def test_the_current_folder_and_those_above_are_no_output(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (".", ".."):
        with pytest.raises(UserError, match="expected a folder of its own"):
            write(Path(target))


def test_build_refuses_a_folder_with_foreign_files_and_its_own_source(
    make_payload: MakePayload, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "ok.npy", unit_rows(4, 8))
    before = (tmp_path / "ok.npy").read_bytes()
    (tmp_path / "important").mkdir()
    (tmp_path / "important/thesis.txt").write_text("years")
    source = str(make_payload([20] * 20).path)
    for out, arguments in {
        "important": ["--payload", source],
        "ok.npy": ["--payload", str(tmp_path / "ok.npy")],
        ".": ["--payload", str(tmp_path / "ok.npy")],
    }.items():
        assert build.main([*arguments, "--out", str(tmp_path / out)]) == 2
        assert "expected" in capsys.readouterr().err
    assert (tmp_path / "ok.npy").read_bytes() == before
    assert (tmp_path / "important/thesis.txt").read_text() == "years"


def test_parquet_is_written_over_our_own_and_not_over_another_file(make_payload: MakePayload, tmp_path: Path) -> None:
    arguments = ["--payload", str(make_payload([3]).path), "--out", str(tmp_path / "x.parquet")]
    (tmp_path / "x.parquet").write_bytes(b"PAR1 somebody's PAR1")
    assert build.main(arguments) == 2
    assert (tmp_path / "x.parquet").read_bytes() == b"PAR1 somebody's PAR1"
    (tmp_path / "x.parquet").unlink()
    assert [build.main(arguments) for _ in range(2)] == [0, 0]


def test_embed_refuses_its_source_and_a_foreign_folder_of_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("texts", "mine.embedding"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("One paragraph that is longer than forty characters, I think.\n")
    for out, said in {"texts": "apart from its source", "mine": "an empty folder or a folder of shards"}.items():
        assert embed.main(["--corpus", str(tmp_path / "texts"), "--out", str(tmp_path / out), "--local"]) == 2
        assert f"expected {'an output ' if out == 'texts' else ''}{said}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "a.txt", "mine.embedding", "texts"]


def test_a_file_is_written_over_only_where_it_carries_our_mark(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    check_file(file, "evaluation", json_mark)
    for content in ("", json.dumps({"made_by": mark("evaluation")})):
        file.write_text(content)
        check_file(file, "evaluation", json_mark)
    for content in ("{}", "thesis", json.dumps({"made_by": mark("run")})):
        file.write_text(content)
        with pytest.raises(UserError, match=r"expected a new file or one that this program made \(evaluation\), got"):
            check_file(file, "evaluation", json_mark)


def test_damage_is_found_by_samples_and_the_smallest_by_reading_all(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1 << 20)
    with output_folder(tmp_path / "out", "payload") as folder:
        (folder / "a.bin").write_bytes(content)
    file = tmp_path / "out/a.bin"
    assert find_damage(file.parent, "payload", fully=True) is None
    file.write_bytes(content[: 1 << 19] + bytes(1 << 19))
    assert find_damage(file.parent, "payload") == ("a.bin", "another content")
    file.write_bytes(content[:9_000] + bytes([content[9_000] ^ 1]) + content[9_001:])
    assert find_damage(file.parent, "payload") is None
    assert find_damage(file.parent, "payload", fully=True) == ("a.bin", "another content")
    file.write_bytes(content[:-1])
    assert find_damage(file.parent, "payload") == ("a.bin", "1048575 bytes instead of 1048576")
    file.unlink()
    assert find_damage(file.parent, "payload") == ("a.bin", "no file")


# ---- one at a time

HOLD = """import sys, pathlib
from data.output import forget_dead_holder, held
with held(pathlib.Path(sys.argv[1]), "run"):
    print(1, flush=True)
    input()"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_second_is_told_who_holds_it_and_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "x"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "1\n"
        said = rf"runs/x: expected nobody else at work on this run, got process {holder.pid} on \S+ since 20\S+; wait"
        with pytest.raises(UserError, match=said), held(path, "run"):
            pass
        holder.kill()
    assert names(path.parent) == [".x.holder.json", ".x.lock"]  # what the dead one left
    with held(path, "run"):
        assert json.loads((path.parent / ".x.holder.json").read_text())["pid"] == os.getpid()
    assert names(path.parent) == []


def test_what_a_dead_holder_left_is_removed_and_a_living_one_keeps_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "1\n"
        forget_dead_holder(path)
        assert names(tmp_path) == [".x.holder.json", ".x.lock"]
        holder.kill()
    forget_dead_holder(path)
    assert names(tmp_path) == []
    forget_dead_holder(path)


def test_a_lock_leaves_no_folder_behind_that_it_made(tmp_path: Path) -> None:
    with held(tmp_path / "runs" / "deep" / "x", "run"):
        pass
    assert names(tmp_path) == []
