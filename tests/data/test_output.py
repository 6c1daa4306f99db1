"""Nothing that others made is replaced or removed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data import build as build_command
from data import embed as embed_command
from data.corpus import shards
from data.errors import UserError
from data.output import MARKER, check_output, replace_folder, replacing_folder
from tests.data.helpers import MakePayload


def make(target: Path, content: str = "new") -> None:
    with replacing_folder(target, "thing") as folder:
        (folder / "part").mkdir()
        (folder / "part" / "file").write_text(content)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_absent_an_empty_and_an_own_folder_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty", "absent"):
        make(tmp_path / name, name)
        assert (tmp_path / name / "part/file").read_text() == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["absent", "empty"]


@pytest.mark.parametrize(
    "marker", [None, "{}", "no JSON", '{"format": "next-vector other", "version": 1, "files": []}']
)
def test_a_folder_of_others_is_refused_before_anything_is_made(tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    if marker is not None:
        (tmp_path / MARKER).write_text(marker)
    before = everything(tmp_path)
    with pytest.raises(
        UserError, match="expected no folder, an empty one, or a thing of this program, got a folder of"
    ):
        make(tmp_path)
    assert everything(tmp_path) == before


def test_a_file_that_someone_put_into_an_own_folder_keeps_it(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out/part/notes.txt").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(UserError, match=r"expected the files of a thing alone, got part/notes\.txt among them"):
        make(tmp_path / "out")
    assert everything(tmp_path) == before


def test_a_file_and_a_link_are_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("years")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(UserError, match="expected a folder to make, got a file or a link"):
            make(tmp_path / name)


@pytest.mark.parametrize(("out", "source"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "a/b/../c")])
def test_source_and_output_must_not_overlap(tmp_path: Path, out: str, source: str) -> None:
    with pytest.raises(UserError, match="expected an output apart from the source"):
        check_output(tmp_path / out, "thing", [tmp_path / source])
    check_output(tmp_path / "ab", "thing", [tmp_path / "a", None])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("one", "two"):
        paragraphs = [f"Paragraph {number} of {name}, long enough to be a chunk of its own." for number in range(8)]
        (folder / f"{name}.txt").write_text("\n\n".join(paragraphs))
    return folder


@pytest.mark.parametrize("out", ["texts", "texts/out", "important", "mine"])
def test_embed_touches_neither_its_source_nor_the_folders_of_others(
    tmp_path: Path, corpus: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("important", "mine.embedding"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years")
    before = everything(tmp_path)
    assert embed_command.main(["--corpus", str(corpus), "--out", str(tmp_path / out), "--local"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(tmp_path / out))
    assert everything(tmp_path) == before


def test_embed_removes_its_shards_and_nothing_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "mine.embedding"
    plan = {"embedder": "x"}
    vectors = np.eye(3, 4, dtype=np.float32)

    def runner(work: list[shards.Shard], embedder: str):  # type: ignore[no-untyped-def]
        return ((number, vectors[: len(texts)]) for number, texts in work)

    shards.embed_in_shards(["a", "b", "c"], folder, embedder="x", plan=plan, shard_texts=2, runner=runner)
    shards.check_shards(folder, [])
    (folder / "notes.txt").write_text("mine")
    shards.remove_shards(folder)
    assert everything(folder) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("out", ["important", "corpus.npy", "important/thesis.parquet"])
def test_build_touches_neither_its_source_nor_the_files_of_others(
    tmp_path: Path, make_payload: MakePayload, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "corpus.npy", np.eye(4, dtype=np.float32))
    np.save(tmp_path / "keys.npy", np.stack([np.zeros(4, np.int64), np.arange(4)], axis=1))
    (tmp_path / "important").mkdir()
    (tmp_path / "important" / "thesis.parquet").write_text("years")
    payload = str(make_payload([8, 8]).path)
    before = everything(tmp_path)
    source = [payload] if out.endswith("parquet") else [str(tmp_path / "corpus.npy"), "--keys"]
    keys = [] if out.endswith("parquet") else [str(tmp_path / "keys.npy")]
    assert build_command.main(["--payload", *source, *keys, "--out", str(tmp_path / out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(tmp_path / out))
    assert everything(tmp_path) == before


def test_build_writes_over_its_own_parquet_file(tmp_path: Path, make_payload: MakePayload) -> None:
    payload = str(make_payload([8, 8]).path)
    for _ in range(2):
        assert build_command.main(["--payload", payload, "--out", str(tmp_path / "out.parquet")]) == 0


def test_writers_of_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    def write(number: int) -> None:
        finished = tmp_path / f"finished-{number}"
        finished.mkdir()
        (finished / "content").write_text(str(number))
        replace_folder(finished, tmp_path / "target")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(300)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]
    assert int((tmp_path / "target/content").read_text()) in range(300)


def test_a_folder_that_cannot_be_moved_says_so(tmp_path: Path) -> None:
    (tmp_path / "finished").mkdir()
    (tmp_path / "target").write_text("a file, not a folder")
    replace_folder(tmp_path / "finished", tmp_path / "target")
    assert (tmp_path / "target").is_dir()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "finished", tmp_path / "target")
