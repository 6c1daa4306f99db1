"""The original experiment on files of its form: everything before the first trial, in an empty folder."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.cluster import start as cluster
from orchestrator.cluster.admission import ClusterResources, Node
from orchestrator.command import main
from tests.benchmarks.data_seed_files import make_seed_files, write_index
from tests.data.helpers import unit_rows

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "phase5_wikipedia.yaml"
NUM_ROWS, DIM = 1500, 16
SMALL = ["--only", "amn", "--set", "variants.amn.d_model=16", "--set", "variants.amn.training.batch_size=64"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    machine = ClusterResources(nodes=(Node(cpus=2, gpus=0, memory_gib=64),))
    monkeypatch.setattr(cluster, "local_resources", lambda: machine)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "artifacts" / "wikipedia"


def test_without_the_files_all_of_them_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(EXPERIMENT), "--dry-run"]) == 2
    names = ("payload: {}payload.npy", "train: {}train_sequences.npz", "val: {}val_sequences.npz")
    missing = ", ".join([*names, "eval: {}eval_sequences.npz", "index.file: {}index.faiss"])
    assert capsys.readouterr().err == (
        f"data: expected files, got none at {missing.replace('{}', 'artifacts/wikipedia/')}; fix the "
        "paths, or see data/README.md\n"
    )


def test_only_a_missing_index_is_said_so(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seed_files(empty_folder, NUM_ROWS, DIM)
    (empty_folder / "index.faiss").unlink()
    assert main([str(EXPERIMENT), "--dry-run"]) == 2
    assert capsys.readouterr().err == (
        "index.file: expected an existing file, got none at artifacts/wikipedia/index.faiss; "
        "correct the path, or leave it out (index.file: null) and an index is built\n"
    )


def test_the_files_pass_the_preflight(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seed_files(empty_folder, NUM_ROWS, DIM)
    assert main([str(EXPERIMENT), "--dry-run", *SMALL]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    verdicts = {row[1]: row[0] for row in rows if row and row[0] in {"pass", "report", "waived", "warn", "FAIL"}}
    assert "FAIL" not in verdicts.values()
    assert verdicts["article_overlap_train_val"] == "waived"
    assert verdicts["article_overlap_train_test"] == verdicts["article_overlap_val_test"] == "pass"
    assert verdicts["train.target_cosine_mean"] == "report"
    assert verdicts["index_vectors"] == verdicts["truth_cosine_mean"] == "pass"
    (line,) = (row for row in rows if row[1:2] == ["provenance"])
    files = [f"{name}_sequences.npz (embedder, norm, metric, payload_build_id)" for name in ("train", "val", "eval")]
    assert " ".join(line).endswith(f"compared: windows (sha256), {', '.join(files)}")


def test_a_leaked_evaluation_is_not_hidden_by_the_waiver(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_seed_files(empty_folder, NUM_ROWS, DIM)
    leaked = np.load(empty_folder / "val_sequences.npz")
    names = {"contexts": "context_sequences", "targets": "target_vectors", "truth_keys": "truth_keys"}
    np.savez(empty_folder / "eval_sequences.npz", **{theirs: leaked[ours] for theirs, ours in names.items()})
    assert main([str(EXPERIMENT), *SMALL]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("preflight.article_overlap_train_test: expected == 0")


def test_files_of_another_build_of_the_payload_stop_the_launch(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_seed_files(empty_folder, NUM_ROWS, DIM)
    content = np.load(empty_folder / "payload.npy", allow_pickle=True).item()
    text, keys, vector = content[0]
    np.save(empty_folder / "payload.npy", {**content, 0: (text + "!", keys, vector)}, allow_pickle=True)
    assert main([str(EXPERIMENT), *SMALL]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "preflight.provenance: expected == 0, got 3 (train_sequences.npz.payload_build_id is payload584k"
    )


def test_the_index_of_another_payload_stops_the_launch(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seed_files(empty_folder, NUM_ROWS, DIM)
    write_index(empty_folder / "index.faiss", np.ascontiguousarray(unit_rows(NUM_ROWS, DIM, seed=5)))
    assert main([str(EXPERIMENT), *SMALL]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("preflight.index_vectors: expected >= 0.99, got 0 (")
    assert not Path("runs").exists()


def test_an_index_in_the_order_of_a_dict_that_is_not_sorted_is_used(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_seed_files(empty_folder, NUM_ROWS, DIM)
    content = np.load(empty_folder / "payload.npy", allow_pickle=True).item()
    names = list(content)
    shuffled = {names[place]: content[names[place]] for place in np.random.default_rng(1).permutation(NUM_ROWS)}
    np.save(empty_folder / "payload.npy", np.array(shuffled, object), allow_pickle=True)
    vectors = np.stack([vector for _, _, vector in shuffled.values()]).astype(np.float32)
    write_index(empty_folder / "index.faiss", vectors)
    # The sequences name the file that was not shuffled.
    waive = ["--set", "preflight.waive=[article_overlap_train_val, provenance]"]
    assert main([str(EXPERIMENT), "--dry-run", *SMALL, *waive]) == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "index_vectors" in row]
    assert line.split()[:3] == ["pass", "index_vectors", "1"]
    assert line.endswith("under their own number, which is that in the file the payload came from")
