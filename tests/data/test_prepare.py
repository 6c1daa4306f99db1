import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import prepare
from data.config import DataConfig
from data.corpus.articles import Article
from data.errors import UserError
from data.foreign.parquet import write_parquet
from data.output import held
from data.preflight.run import blocking, run_preflight
from data.prepare import docstring_recipe, prepare_data, prepare_payload, prepare_splits, recipe_hash
from data.windows.table import WindowProvenance, save_windows
from tests.data.helpers import MakePayload, unit_rows

NUMPY_ONLY = DataConfig(packages=("numpy",))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the payload of numpy's docstrings."""
    folder = tmp_path_factory.mktemp("artifacts")
    prepare_payload(NUMPY_ONLY, folder)
    return folder


def test_a_corpus_is_announced_before_it_is_made_and_opened_without_a_word(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    made = prepare_payload(NUMPY_ONLY, cache, tell=told.append)
    assert told == []
    monkeypatch.setattr(prepare, "_build_docstring_payload", lambda *_: made)
    prepare_payload(NUMPY_ONLY, tmp_path, tell=told.append)
    assert told == [f"corpus    made once of the documentation of numpy: {tmp_path / made.path.name} ..."]


def test_the_docstring_payload_is_whole_and_passes_the_preflight(cache: Path) -> None:
    data = prepare_data(NUMPY_ONLY, cache, seed=1)
    assert data.payload.num_articles > 250
    assert data.payload.num_rows > 7 * data.payload.num_articles
    assert data.payload.article_title(0).startswith("numpy")
    assert len(data.payload.text(0)) >= 40
    assert blocking(run_preflight(data.payload, data.splits)) == []


def test_the_provenance_says_what_it_was_built_from(cache: Path) -> None:
    provenance = prepare_payload(NUMPY_ONLY, cache).provenance
    assert provenance.embedder.startswith("wordllama 0.")
    assert provenance.source["packages"] == {"numpy": np.__version__}
    assert len(provenance.source["corpus_sha256"]) == 64
    assert provenance.source["rule"] == 1
    repeats = provenance.source["repeats"]
    assert 0.1 < repeats["repeats"] / repeats["chunks"] < 0.5


def test_repeats_of_a_given_payload_are_dropped_on_request_and_once(make_payload: MakePayload, tmp_path: Path) -> None:
    vectors = unit_rows(100, 16)
    vectors[10::10] = vectors[0]  # the first chunk of each article is the same
    written = make_payload([10] * 10, vectors=vectors)
    config = DataConfig(source="payload", payload=str(written.path), repeats="drop")
    cleaned, again = (prepare_payload(config, tmp_path / "cache") for _ in range(2))
    assert cleaned.num_rows == 90 and cleaned.chunk_index.tolist() == list(range(9)) * 10
    assert cleaned.path == again.path and cleaned.provenance.created_at == again.provenance.created_at
    assert prepare_payload(replace(config, payload=str(cleaned.path)), tmp_path / "cache").path == cleaned.path
    assert prepare_payload(replace(config, repeats=None), tmp_path / "cache").num_rows == 100


def test_windows_that_are_cut_already_forbid_to_drop_repeats(make_payload: MakePayload, tmp_path: Path) -> None:
    payload = make_payload([10] * 50)
    provenance = WindowProvenance(
        payload_sha256=payload.provenance.sha256, context_length=5, min_article_chunks=7, origin="files"
    )
    save_windows(payload.path / "windows", prepare_splits(payload, DataConfig(), seed=1), provenance)
    config = DataConfig(source="payload", payload=str(payload.path), repeats="drop")
    with pytest.raises(ValueError, match=r"repeats: expected keep with the windows in .*, got drop; they are fixed"):
        prepare_payload(config, tmp_path)


def test_a_test_window_that_stands_in_training_is_no_query(make_payload: MakePayload) -> None:
    payload = make_payload([10] * 50)
    splits = prepare_splits(payload, DataConfig(), seed=1)
    copied = int(splits.test.article_index[0])
    vectors = np.array(payload.vectors).reshape(50, 10, -1)
    vectors[copied, :9] = vectors[splits.train.article_index[0], :9]  # the last of five windows has a target of its own
    again = prepare_splits(make_payload([10] * 50, vectors=vectors.reshape(500, -1)), DataConfig(), seed=1)
    assert again.dropped == {"val": 0, "test": 4}
    assert len(again.test) == len(splits.test) - 4
    assert len(again.train) == len(splits.train) and len(again.val) == len(splits.val)
    assert (again.test.article_index == copied).sum() == 1


def test_a_second_call_opens_the_cache_without_importing_the_embedder(cache: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from data.config import DataConfig
from data.corpus.articles import Article
from data.prepare import prepare_data
prepare_data(DataConfig(packages=("numpy",)), Path({str(cache)!r}), seed=1)
heavy = {{"wordllama", "tokenizers", "torch", "ray", "pandas", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_rule_or_version_is_another_folder() -> None:
    recipe = docstring_recipe(NUMPY_ONLY)
    longer = docstring_recipe(DataConfig(packages=("numpy",), max_chars=500))
    newer = {**recipe, "packages": {"numpy": "99"}}
    assert len({recipe_hash(each) for each in (recipe, longer, newer)}) == 3
    assert recipe_hash(recipe) == recipe_hash(docstring_recipe(NUMPY_ONLY))


def test_a_build_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("data.corpus.embedders.embed_wordllama", fail)
    monkeypatch.setattr(prepare, "docstring_articles", lambda *_, **__: [Article("t", ("text",) * 7)])
    with pytest.raises(RuntimeError, match="out of memory"):
        prepare_payload(NUMPY_ONLY, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_payload_folder_is_opened_as_it_is(make_payload: MakePayload, tmp_path: Path) -> None:
    written = make_payload([10] * 50)
    config = DataConfig(source="payload", payload=str(written.path))
    data = prepare_data(config, tmp_path / "unused", seed=1)
    assert data.payload.provenance == written.provenance
    assert sum(len(table) for _, table in data.splits.items()) == 50 * 5
    assert not (tmp_path / "unused").exists()


def test_a_payload_file_is_built_once_and_again_when_it_changes(make_payload: MakePayload, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    write_parquet(make_payload([10] * 50), file)
    config = DataConfig(source="payload", payload=str(file), embedder="named")
    first, again = (prepare_payload(config, tmp_path / "cache") for _ in range(2))
    assert first.path == again.path and first.provenance.created_at == again.provenance.created_at
    assert first.provenance.embedder == "named"
    write_parquet(make_payload([10] * 40), file)
    assert prepare_payload(config, tmp_path / "cache").num_rows == 400


def test_a_cache_that_is_damaged_is_built_again_and_says_so(
    make_payload: MakePayload, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(make_payload([30, 30]), tmp_path / "x.parquet")
    config = DataConfig(source="payload", payload=str(tmp_path / "x.parquet"), repeats="keep")
    first = prepare_payload(config, tmp_path / "cache")
    for name in ("vectors.npy", "payload.json"):
        file = first.path / name
        file.write_bytes(bytes(file.stat().st_size // 2) + file.read_bytes()[file.stat().st_size // 2 :])
        again = prepare_payload(config, tmp_path / "cache")
        assert again.provenance.sha256 == first.provenance.sha256
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"{file}: expected the file as it was written, got another content; damaged, built again"


def test_a_cache_that_another_process_builds_is_left_to_it(make_payload: MakePayload, tmp_path: Path) -> None:
    write_parquet(make_payload([30, 30]), tmp_path / "x.parquet")
    config = DataConfig(source="payload", payload=str(tmp_path / "x.parquet"), repeats="keep")
    folder = prepare_payload(config, tmp_path / "cache").path
    shutil.rmtree(folder)
    with held(folder, "cache entry"), pytest.raises(UserError, match="expected nobody else at work on this cache ent"):
        prepare_payload(config, tmp_path / "cache")


def test_sequence_files_decide_the_windows(make_payload: MakePayload, tmp_path: Path) -> None:
    payload = make_payload([10] * 50)
    splits = prepare_splits(payload, DataConfig(), seed=3)
    for name, table in splits.items():
        keys = np.stack([payload.article_index[table.targets], payload.chunk_index[table.targets]], axis=1)
        vectors = np.asarray(payload.vectors[table.rows])
        np.savez(tmp_path / name, context_sequences=vectors[:, :-1], target_vectors=vectors[:, -1], truth_keys=keys)
    files = {name: str(tmp_path / f"{name}.npz") for name in ("train", "val")}
    config = DataConfig(source="payload", payload=str(payload.path), eval=str(tmp_path / "test.npz"), **files)
    data = prepare_data(config, tmp_path / "cache", seed=99)
    np.testing.assert_array_equal(data.splits.test.rows, splits.test.rows)
    with pytest.raises(
        ValueError, match=r"context_length: expected 5 as in .*/windows, got 4; the sequence files decide"
    ):
        prepare_data(replace(config, context_length=4), tmp_path / "cache", seed=99)


def test_all_missing_files_are_named_at_once_with_how_to_make_them(tmp_path: Path) -> None:
    config = DataConfig(source="payload", payload="a.npy", train="b.npz", val=str(tmp_path), eval="c.npz")
    with pytest.raises(FileNotFoundError) as caught:
        prepare_payload(config, tmp_path)
    assert str(caught.value) == (
        "data: expected files, got none at payload: a.npy, train: b.npz, eval: c.npz; fix the paths, or see "
        "data/README.md"
    )


def test_a_corpus_of_short_articles_is_refused(make_payload: MakePayload, tmp_path: Path) -> None:
    config = DataConfig(source="payload", payload=str(make_payload([6] * 5).path))
    with pytest.raises(ValueError, match="expected articles of 7 chunks or more, got none among 5 articles"):
        prepare_data(config, tmp_path, seed=1)
