"""The faults of sequence files, each with the line that a person reads."""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.build import main
from data.foreign.assemble import CutRule, SequenceFiles, build
from data.payload.store import Payload, open_payload
from data.windows.table import WindowTable, build_windows, load_window_provenance, load_windows, split_by_article
from tests.data.helpers import MakePayload, unit_rows

DIM = 8
SaveFiles = Callable[..., SequenceFiles]


@pytest.fixture
def payload(make_payload: MakePayload) -> Payload:
    return make_payload([6] * 60, dim=DIM, embedder="gtr-t5-base")


def arrays_of(payload: Payload, table: WindowTable, **changes: Any) -> dict[str, Any]:
    targets = table.targets
    return {
        "context_sequences": np.asarray(payload.vectors[table.rows[:, :-1]]),
        "target_vectors": np.asarray(payload.vectors[targets]),
        "truth_keys": np.stack([payload.article_index[targets], payload.chunk_index[targets]], axis=1).astype(np.int64),
        "provenance": np.array([json.dumps({"embedder_id": "GTR-T5-base-768"})]),
        **changes,
    }


@pytest.fixture
def save_files(payload: Payload, tmp_path: Path) -> SaveFiles:
    """Write train, val and eval files of a payload; `change` edits the arrays of the training file."""

    def save(change: Callable[[dict[str, Any]], Any] = lambda arrays: None) -> SequenceFiles:
        table = build_windows(payload.article_index, payload.chunk_index, 2, 3)
        splits = split_by_article(table, 0.2, 0.2, seed=1)
        for name, part in splits.items():
            arrays = arrays_of(payload, part)
            if name == "train":
                change(arrays)
            np.savez(tmp_path / f"{name}.npz", **arrays)
        return SequenceFiles(**{name: tmp_path / f"{name}.npz" for name in ("train", "val", "test")})

    return save


def test_files_become_row_numbers_of_the_payload(payload: Payload, save_files: SaveFiles, tmp_path: Path) -> None:
    built = build(payload.path, tmp_path / "out", files=save_files())
    expected = split_by_article(build_windows(payload.article_index, payload.chunk_index, 2, 3), 0.2, 0.2, seed=1)
    opened = load_windows(tmp_path / "out/windows", payload_sha256=payload.provenance.sha256)
    for (_, table), (_, wanted) in zip(opened.items(), expected.items(), strict=True):
        np.testing.assert_array_equal(table.rows, wanted.rows)
        np.testing.assert_array_equal(table.article_index, wanted.article_index)
    provenance = load_window_provenance(tmp_path / "out/windows")
    assert provenance.origin == "files"
    assert provenance.alignment["train"]["target_cosine_mean"] == pytest.approx(1.0)
    assert all(check.passed for check in built.checks)


def test_older_names_and_eval_names_and_compressed_files_are_read(
    payload: Payload, save_files: SaveFiles, tmp_path: Path
) -> None:
    files = save_files()
    for path, names in ((files.val, ("sequences", "targets")), (files.test, ("contexts", "targets"))):
        arrays = dict(np.load(path))
        context, target = arrays.pop("context_sequences"), arrays.pop("target_vectors")
        last_meta = np.array([{"article_index": 1}], object)
        np.savez_compressed(path, **{names[0]: context, names[1]: target}, last_meta=last_meta, **arrays)
    assert len(build(payload.path, tmp_path / "out", files=files).splits.test) > 0


@pytest.mark.parametrize(
    "provenance", ['{"embedder": "sentence-transformers/GTR-T5-base"}', '{"model": "?"}', '"text"']
)
def test_an_embedder_may_be_named_with_its_organisation_or_not_at_all(
    payload: Payload, save_files: SaveFiles, tmp_path: Path, provenance: str
) -> None:
    files = save_files(lambda arrays: arrays.update(provenance=np.array(provenance)))
    assert all(check.passed for check in build(payload.path, tmp_path / "out", files=files).checks)


def test_a_provenance_that_is_no_json_is_refused(payload: Payload, save_files: SaveFiles, tmp_path: Path) -> None:
    files = save_files(lambda arrays: arrays.update(provenance=np.array("gtr")))
    with pytest.raises(ValueError, match=r"train.npz: expected JSON in provenance, got .*; write it with json.dumps"):
        build(payload.path, tmp_path / "out", files=files)


def test_a_provenance_that_asks_for_code_is_refused(payload: Payload, save_files: SaveFiles, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'witness'}",)

    files = save_files(lambda arrays: arrays.update(provenance=np.array(Attack(), object)))
    with pytest.raises(ValueError, match=r"train.npz: expected numpy arrays .* got a request for posix.system;"):
        build(payload.path, tmp_path / "out", files=files)
    assert not (tmp_path / "witness").exists()


def rotate(arrays: dict[str, Any], name: str = "target_vectors") -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0].astype(np.float32)
    arrays[name] = arrays[name] @ rotation


def rotate_contexts(arrays: dict[str, Any]) -> None:
    rotate(arrays, "context_sequences")


def roll_targets(arrays: dict[str, Any]) -> None:
    arrays["target_vectors"] = np.roll(arrays["target_vectors"], -1, axis=0)


def mix_keys(arrays: dict[str, Any]) -> None:
    arrays["truth_keys"] = np.random.default_rng(0).permutation(arrays["truth_keys"])


def shuffle_contexts(arrays: dict[str, Any]) -> None:
    arrays["context_sequences"] = arrays["context_sequences"][:, ::-1]


def set_embedder(arrays: dict[str, Any]) -> None:
    arrays["provenance"] = np.array(json.dumps({"embedder": "bge-small"}))


def miss_a_key(arrays: dict[str, Any]) -> None:
    arrays["truth_keys"][0] = (999, 0)


def first_chunk_as_target(arrays: dict[str, Any]) -> None:
    arrays["truth_keys"][0] = (0, 1)  # only one chunk before it, L = 2
    arrays["target_vectors"][0] = unit_rows(360, DIM)[1]


def other_dimension(arrays: dict[str, Any]) -> None:
    arrays["context_sequences"] = arrays["context_sequences"][..., :5]


def both_dimensions(arrays: dict[str, Any]) -> None:
    other_dimension(arrays)
    arrays["target_vectors"] = arrays["target_vectors"][:, :5]


def one_target_less(arrays: dict[str, Any]) -> None:
    arrays["target_vectors"] = arrays["target_vectors"][1:]


def nan_target(arrays: dict[str, Any]) -> None:
    arrays["target_vectors"][0, 0] = np.nan


def nan_context(arrays: dict[str, Any]) -> None:
    arrays["context_sequences"][0, 1, 0] = np.nan


def no_keys(arrays: dict[str, Any]) -> None:
    del arrays["truth_keys"], arrays["provenance"]


def negative_key(arrays: dict[str, Any]) -> None:
    arrays["truth_keys"][0, 0] = -1


ORDER = "write vectors and keys in one order"
DAMAGED = (
    "preflight.train.finite: expected == 0, got 1 (sequences with NaN or infinity); "
    "write the file again, or use the payload's own rows instead with realign: true (--realign)"
)
REALIGN = "embed both with one embedder, or use the payload's own rows instead with realign: true (--realign)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rotate, f"train.npz: preflight.train.truth_cosine_mean: expected >= 0.98, got <number>; {REALIGN}"),
        (nan_target, f"train.npz: {DAMAGED}"),
        (nan_context, f"train.npz: {DAMAGED}"),
        (
            roll_targets,
            "train.npz: preflight.train.truth_cosine_mean: expected >= 0.98, got <number>; "
            f"the targets are rows of this payload, 1 row after the ones that their keys name; {ORDER}",
        ),
        (
            mix_keys,
            "train.npz: preflight.train.truth_cosine_mean: expected >= 0.98, got <number>; "
            f"the targets are rows of this payload, in another order than their keys; {ORDER}",
        ),
        (
            set_embedder,
            "train.npz: preflight.train.embedder: expected == 1, got 0 (the payload is from gtr-t5-base, the file from "
            "bge-small); embed both with one embedder, or call it by one name with embedder: (--embedder)",
        ),
        (
            shuffle_contexts,
            "train.npz: preflight.train.context_cosine_min: expected >= 0.999, got <number> (<number> of <number> "
            "contexts are not the payload's, mean cosine <number>); "
            f"the contexts are rows of this payload, in another order than their keys; {ORDER}",
        ),
        (
            rotate_contexts,
            "train.npz: preflight.train.context_cosine_min: expected >= 0.999, got <number> (<number> of <number> "
            f"contexts are not the payload's, mean cosine <number>); {REALIGN}",
        ),
        (
            miss_a_key,
            "train.npz: preflight.train.key_coverage: expected == 1, got <number> (1 of <number> truth keys are not in "
            "the payload); build the payload and the file from one corpus",
        ),
        (
            first_chunk_as_target,
            "train.npz: preflight.train.context_missing: expected == 0, got 1 (targets without their chunks of context "
            "in the payload); leave them out with realign: true (--realign)",
        ),
        (
            other_dimension,
            "train.npz: expected one dimension for context and target, got 5 in context_sequences and 8 in "
            "target_vectors; embed both with one embedder",
        ),
        (
            both_dimensions,
            "train.npz: expected vectors of dimension 8 like the payload, got 5; embed both with one embedder",
        ),
        (
            one_target_less,
            "train.npz: expected context_sequences (M, L, D), target_vectors (M, D) and truth_keys (M, 2), got "
            "(<number>, 2, 8), (<number>, 8) and (<number>, 2); write the three arrays from one list of sequences",
        ),
        (no_keys, "train.npz: expected an array named truth_keys, got context_sequences, target_vectors; rename it"),
        (
            negative_key,
            "train.npz: expected truth_keys from 0 to 2147483647, got -1 to <number>; number from 0",
        ),
    ],
)
def test_a_planted_fault_is_refused_with_its_line_and_nothing_is_left(
    payload: Payload, save_files: SaveFiles, tmp_path: Path, change: Any, message: str
) -> None:
    files = save_files(change)
    with pytest.raises(ValueError) as caught:
        build(payload.path, tmp_path / "out", files=files)
    pattern = re.escape(f"{tmp_path}/{message}").replace("<number>", r"-?[\d.]+")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", [rotate, shuffle_contexts, first_chunk_as_target, nan_target, set_embedder])
def test_realign_uses_the_rows_of_the_payload_whatever_the_file_holds(
    payload: Payload, save_files: SaveFiles, tmp_path: Path, change: Any
) -> None:
    built = build(payload.path, tmp_path / "out", files=save_files(change), realign=True)
    table = built.splits.train
    np.testing.assert_array_equal(payload.article_index[table.targets], table.article_index)
    assert (np.diff(payload.chunk_index[table.rows], axis=1) == 1).all()
    assert load_window_provenance(tmp_path / "out/windows").alignment["train"]["realigned"] is True
    reported = {check.name for check in built.checks if check.limit is None}
    assert {"train.embedder", "train.truth_cosine_mean", "train.context_cosine_min"} <= reported


@pytest.mark.parametrize("keep", [10, 2000, -30])
def test_a_truncated_file_is_one_line(payload: Payload, save_files: SaveFiles, tmp_path: Path, keep: int) -> None:
    files = save_files()
    files.train.write_bytes(files.train.read_bytes()[:keep])
    with pytest.raises(ValueError) as caught:
        build(payload.path, tmp_path / "out", files=files)
    assert str(caught.value) == (
        f"{files.train}: expected a .npz of sequences, got a truncated or damaged file (File is not a zip file); "
        "fetch it again"
    )


def test_a_damaged_byte_inside_is_noticed(payload: Payload, save_files: SaveFiles, tmp_path: Path) -> None:
    files = save_files()
    content = bytearray(files.train.read_bytes())
    content[1000] ^= 1
    files.train.write_bytes(content)
    with pytest.raises(ValueError, match=r"got a truncated or damaged file \(Bad CRC-32"):
        build(payload.path, tmp_path / "out", files=files)


def test_a_header_that_promises_more_than_there_is(payload: Payload, save_files: SaveFiles, tmp_path: Path) -> None:
    files = save_files()
    arrays = dict(np.load(files.train))
    with zipfile.ZipFile(files.train, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            cut = content.getvalue()[:-100] if name == "target_vectors" else content.getvalue()
            archive.writestr(f"{name}.npy", cut)
    with pytest.raises(ValueError, match=r"truncated or damaged file \(target_vectors ends early\); fetch it again"):
        build(payload.path, tmp_path / "out", files=files)


def test_windows_from_the_payload_alone_follow_the_rule_and_the_counts_are_printed(
    make_payload: MakePayload, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [12] * 40 + [9] * 10
    source = make_payload(sizes, dim=DIM)
    assert main(["--payload", str(source.path), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("payload   570 chunks, dimension 8, float32, embedder random, sha256")
    assert re.fullmatch(r"articles  40 used \(train \d+, val \d+, test \d+\), 10 skipped", lines[1])
    assert lines[2].startswith(f"windows   {40 * (12 - 5)} (train ")
    assert open_payload(tmp_path / "out", verify=True).provenance.sha256 == source.provenance.sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--payload", "none.npy", "--out", "out"], "none.npy: expected a payload file, got none; check the path"),
        (
            ["--payload", "none.npy", "--train", "t.npz", "--out", "out"],
            "--train, --val, --eval: expected all three files or none, got some; name the missing ones",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_payload_folder_is_cut_again_beside_itself_and_not_in_place(payload: Payload, tmp_path: Path) -> None:
    rule = CutRule(context_length=2, min_article_chunks=3)
    with pytest.raises(ValueError, match="expected an output apart from its source"):
        build(payload.path, payload.path, rule=rule)
    built = build(payload.path, tmp_path / "cut", rule=rule)
    assert built.payload.provenance.sha256 == payload.provenance.sha256
    assert sum(len(table) for _, table in built.splits.items()) == 60 * 4


def test_parquet_is_written_on_request(payload: Payload, tmp_path: Path) -> None:
    assert main(["--payload", str(payload.path), "--out", str(tmp_path / "x.parquet")]) == 0
    rule = CutRule(context_length=2, min_article_chunks=3)
    assert build(tmp_path / "x.parquet", tmp_path / "out", rule=rule).payload.provenance.embedder == "gtr-t5-base"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_vectors_that_are_no_numbers_or_zero_are_counted_and_refused(tmp_path: Path, value: float) -> None:
    vectors = np.eye(24, 8, dtype=np.float32) + 0.1
    vectors[[3, 7]] = value
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "keys.npy", np.stack([np.zeros(24, np.int64), np.arange(24)], axis=1))
    with pytest.raises(
        ValueError, match="expected vectors of finite numbers that are not all zero, got 2 others of 24"
    ):
        build(tmp_path / "vectors.npy", tmp_path / "out", keys=tmp_path / "keys.npy")
    assert not (tmp_path / "out").exists()
