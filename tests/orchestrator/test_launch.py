"""The command line without a cluster: wrong input is one line and exit code 2, a dry run shows the plan."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayTaskError

from data.config import DataConfig
from data.errors import UserError
from data.io import write_json
from data.payload.store import open_payload, write_payload
from data.prepare import prepare_data
from orchestrator import pipeline
from orchestrator.command import main
from orchestrator.config.load import load_config
from orchestrator.run.ledger import Ledger
from orchestrator.state import Measured, Prepared

REPOSITORY = Path(__file__).parents[2]


def everything_here() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Launch; return the one line that it complains in."""
    assert main([str(argument) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


def num_windows(payload: Path) -> dict[str, int]:
    """Windows in each split of the experiment above."""
    splits = prepare_data(DataConfig(source="payload", payload=str(payload)), Path(), seed=3).splits
    return {name: len(table) for name, table in splits.items()}


# ---- wrong input


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--set", "variants.learner.d_modle=64"],
            "{file}: variants.learner.d_modle: unknown key; did you mean d_model?",
        ),
        (["--set", "training.epochs=0"], "{file}: training.epochs: expected at least 1, got 0; fix the value"),
        (
            ["--set", "variants.learner.d_model=33"],
            "{file}: variants.learner.d_model: expected expand * d_model (2 * 33) d",
        ),
        (["--set", "baselines=[nothing]"], "{file}: baselines: unknown baseline 'nothing'; legal: "),
        (
            ["--set", "gates.success_if=['rr@5 >= 1']"],
            "{file}: gates.success_if[0]: unknown metric 'rr@5'; did you mean",
        ),
        (["--set", "smoke.epochs=[2, 9]"], "{file}: smoke.epochs[1]: expected at most 4 (training.epochs), got 9; "),
        (["--set", "seed"], "--set seed: expected key.key=value, got no such form; e.g. --set training.epochs=2"),
        (["--only", "learned"], "{file}: --only learned: unknown variant; did you mean learner?"),
        (
            ["--set", "data.payload=nowhere"],
            "data: expected existing files, got none at payload: nowhere; correct the paths",
        ),
        (["--set", "preflight.waive=[norms]"], "preflight.waive: expected names among "),
        (
            ["--set", "training.batch_size=512"],
            "variants.learner.training.batch_size: expected at most the {num_train} training ",
        ),
        (
            ["--set", "data.val_share=0.001"],
            "val: expected windows in a split of 0% of the articles, got none",
        ),
        (
            ["--set", "data.min_article_chunks=11"],
            "{payload}: expected articles of 11 chunks or more, got none among 120",
        ),
    ],
)
@pytest.mark.parametrize("dry", [True, False], ids=["dry", "launch"])
def test_wrong_input_is_one_line_and_nothing_is_written(
    experiment: Path,
    rotation_payload: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    line: str,
    *,
    dry: bool,
) -> None:
    found = refused(capsys, experiment, *options, *(["--dry-run"] if dry else []))
    num_train = num_windows(rotation_payload)["train"]
    assert found.startswith(line.format(file=experiment, payload=rotation_payload, num_train=num_train))
    assert everything_here() == []


def test_a_missing_experiment_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "none.yaml")
    assert line == "none.yaml: expected an experiment file, got no such file; see experiments/ for examples"


def test_a_truncated_payload_is_one_line(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in rotation_payload.iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[: len(content) // 2] if file.name == "vectors.npy" else content)
    line = refused(capsys, experiment, "--set", f"data.payload={folder}")
    assert line.startswith(f"{folder / 'vectors.npy'}: expected an array of shape (1200, 16), got a damaged file (")
    assert everything_here() == []


def test_a_failed_preflight_check_shows_all_checks_and_writes_nothing(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = open_payload(rotation_payload)
    longer = write_payload(
        tmp_path / "longer",
        vectors=np.asarray(payload.vectors) * np.float32(1.5),
        article_index=np.asarray(payload.article_index),
        chunk_index=np.asarray(payload.chunk_index),
        embedder="unnormalised",
    )
    assert main([str(experiment), "--set", f"data.payload={longer.path}"]) == 2
    table = capsys.readouterr().err.splitlines()
    assert [line.split()[:5] for line in table if "unit_norm" in line.split()[:2]] == [
        ["FAIL", "unit_norm", "0.5", "<=", "0.001"]
    ]
    assert table[-1].startswith("preflight.unit_norm: ")
    assert everything_here() == []


def save_index(file: Path, vectors: np.ndarray) -> str:
    import faiss

    index = faiss.index_factory(vectors.shape[1], "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(file))
    return str(file)


def test_an_index_of_another_payload_stops_the_launch_before_anything_is_written(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = np.ascontiguousarray(np.asarray(open_payload(rotation_payload).vectors)[:, ::-1])
    file = save_index(tmp_path / "other.faiss", other)
    for options in ([], ["--dry-run"]):
        code = main([str(experiment), "--set", f"index.file={file}", *options])
        shown = capsys.readouterr()
        assert code == (0 if options else 2)
        table = (shown.out if options else shown.err).splitlines()
        assert [line.split()[:5] for line in table if "index_vectors" in line.split()[:2]] == [
            ["FAIL", "index_vectors", "0", ">=", "0.99"]
        ]
    assert everything_here() == []


def test_the_line_about_an_index_of_another_payload_and_its_waiver(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = np.asarray(open_payload(rotation_payload).vectors)
    file = save_index(tmp_path / "other.faiss", np.ascontiguousarray(vectors[:, ::-1]))
    assert main([str(experiment), "--set", f"index.file={file}"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "preflight.index_vectors: expected >= 0.99, got 0 (share of 256 payload rows found under their own number); "
        "it was built from another payload; name the one built from these vectors, "
        "or leave index.file out and an index is built"
    )
    waived = ["--set", "preflight.waive=[index_vectors]", "--dry-run"]
    assert main([str(experiment), "--set", f"index.file={file}", *waived]) == 0
    assert "waived  index_vectors" in capsys.readouterr().out


def test_what_stands_beside_an_index_is_held_against_the_payload(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = open_payload(rotation_payload)
    file = save_index(tmp_path / "corpus.faiss", np.array(payload.vectors))
    (tmp_path / "corpus.json").write_text(json.dumps({"payload_sha256": "ab" * 32}))
    assert main([str(experiment), "--set", f"index.file={file}"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "preflight.provenance: expected == 0, got 1 (index.sha256 is abababababab, payload.sha256 is "
        f"{payload.provenance.sha256[:12]}); build payload, windows and index from one embedding of one corpus"
    )


def test_a_run_is_not_continued_with_another_index(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = np.array(open_payload(rotation_payload).vectors)
    file = save_index(tmp_path / "corpus.faiss", vectors)
    options = [str(experiment), "--set", f"index.file={file}", "--set", "run_dir=runs"]
    config = load_config(experiment, (f"index.file={file}", "run_dir=runs"))
    stored = {"config_sha256": config.fingerprint(), "data_sha256": open_payload(rotation_payload).provenance.sha256}
    Ledger(Path("runs/rotation")).open(config.resolved(), {**stored, "index_sha256": "ab" * 32})
    line = refused(capsys, *options)
    assert line.startswith("runs/rotation: expected the run's own index (sha256 abababababababab), got ")
    assert line.endswith("; give another --run-dir or name, or start over with --fresh")


def test_a_missing_index_file_is_named_with_the_others(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "data.payload=a.npy", "--set", "index.file=b.faiss", "--dry-run"]
    line = refused(capsys, experiment, *options)
    assert line.startswith("data: expected existing files, got none at payload: a.npy, index.file: b.faiss; correct ")


def test_the_folder_of_another_experiment_is_refused_and_left_as_it_is(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger(Path("runs/rotation")).open({"seed": 4}, {"config_sha256": "c", "data_sha256": "d"})
    before = everything_here()
    line = refused(capsys, experiment, "--set", "run_dir=runs")
    assert line.startswith("runs/rotation: expected the run's own configuration, got seed: 4 -> 3; ")
    assert line.endswith("give another --run-dir or name, or start over with --fresh")
    assert everything_here() == before


def test_fresh_does_not_delete_a_folder_that_is_no_run(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("precious").mkdir()
    Path("precious/config.yaml").write_text("a: 1")
    Path("precious/thesis.txt").write_text("years")
    line = refused(capsys, experiment, "--run-dir", "precious", "--fresh")
    assert line == "precious: expected a run folder, got one without manifest.json; remove it by hand"
    assert Path("precious/thesis.txt").read_text() == "years"


def test_a_file_as_run_folder_is_one_line(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    for options in ([], ["--fresh"]):
        line = refused(capsys, experiment, "--run-dir", "file", *options)
        assert line == "file: expected a run folder, got a file; give another --run-dir"


def test_an_interpreter_that_ray_cannot_start_is_refused_instead_of_waited_for(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/my project/.venv/bin/python")
    assert refused(capsys, experiment) == (
        "python: expected an interpreter under a path without spaces, got /my project/.venv/bin/python; Ray cannot "
        "start its workers from there: move the folder or make the environment elsewhere"
    )
    assert everything_here() == []


def test_options_that_do_not_exist_are_exit_code_2() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["x.yaml", "--no-such-option"])
    assert ended.value.code == 2


# ---- what goes wrong later


def ends_with(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, trains: Callable[[], object] = lambda: None
) -> None:
    """From here on a launch makes the run folder its own, `trains`, and ends by an error, without a cluster."""

    def execute(prepared: Prepared, *arguments: Any, **options: Any) -> None:
        pipeline.claim(prepared, Measured(index={}, baselines={}, oracle={}, checks=prepared.checks))
        trains()
        raise error

    monkeypatch.setattr(pipeline, "execute", execute)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("resources.device: expected a GPU"), 2, "resources.device: expected a GPU"),
        (
            RuntimeError("out of\nluck"),
            1,
            "RuntimeError: out of luck; the traceback is in runs/rotation/ray.log; type ",
        ),
        (KeyError("rows"), 1, "KeyError: 'rows'; the traceback is in "),
        # Ray raises what a task raised as an error of both types: no input is wrong when a worker's shape is.
        (ValueError("shapes differ"), 1, "ValueError: shapes differ; the traceback is in "),
        (
            RayTaskError("evaluate", "Traceback ...", ValueError("shapes differ")).as_instanceof_cause(),
            1,
            "ValueError: shapes differ; the traceback is in ",
        ),
        (KeyboardInterrupt(), 130, "interrupted; type the same command again to continue from the last checkpoints"),
        (
            PermissionError(13, "Permission denied", "runs"),
            1,
            "PermissionError: [Errno 13] Permission denied: 'runs'; ",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_while_it_runs_is_one_line_with_what_to_do(
    experiment: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    error: BaseException,
    code: int,
    line: str,
) -> None:
    ends_with(monkeypatch, error)
    assert main([str(experiment), "-v"]) == code
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith(line)
    log = Path("runs/rotation/ray.log")
    assert log.is_file() == (code == 1)
    assert code != 1 or "Traceback" in log.read_text()


def test_a_folder_that_cannot_be_written_is_one_line(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("a file")
    assert main([str(experiment)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("[Errno 20] Not a directory: 'runs/rotation'; fix the path, its permissions or the disk")


def test_an_interruption_is_recorded_for_trials_that_had_begun(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(Path("runs/rotation"))
    ends_with(monkeypatch, KeyboardInterrupt(), lambda: ledger.variant("learner").rewrite([{"epoch": 1}]))
    for _ in range(2):
        assert main([str(experiment), "-v"]) == 130
    (line,) = ledger.decisions_of("learner")
    assert (line["action"], line["epoch"], line["reason"]) == ("interrupt", 1, "interrupted")
    assert ledger.decisions_of("amn") == []


def test_a_complete_run_prints_its_table_again_and_keeps_its_exit_code(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(monkeypatch, RuntimeError("executed"))
    assert main([str(experiment)]) == 1
    row = {"variant": "learner", "kind": "variant", "status": "PRUNED", "reason": "r@5 too low", "epochs": 2}
    results = {"protocol": {"finished_at": "noon"}, "rows": [row], "best": None, "verdict": "No variant survived."}
    write_json(Path("runs/rotation/results.json"), results)
    capsys.readouterr()
    assert main([str(experiment)]) == 3
    shown = capsys.readouterr().out
    assert "runs/rotation: complete since noon; --fresh starts over" in shown
    assert "r@5 too low" in shown
    write_json(Path("runs/rotation/results.json"), {**results, "best": "learner"})
    assert main([str(experiment)]) == 0
    assert main([str(experiment), "--fresh"]) == 1
    assert not Path("runs/rotation/results.json").exists()


# ---- the dry run


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    experiment: Path, rotation_payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(experiment), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    plan = shown.out
    assert "run folder: runs/rotation (new)" in plan
    num = num_windows(rotation_payload)
    assert f"data: 1,200 chunks, 16-D, rotation-16, from {rotation_payload}; windows: {num['train']} train, " in plan
    assert "resources: cpu, 2 at once = min of CPUs (2 - 0 reserved) / 1 = 2, memory 64.0 / " in plan
    rows = {line.split()[0]: line.split() for line in plan.splitlines() if line.startswith(("learner", "amn"))}
    # workers, epochs, batch, steps an epoch x epochs; an epoch's short last batch is left out.
    steps = str(num["train"] // 32)
    assert rows["learner"][3:9] == ["1", "4", "32", steps, "x", "4"]
    assert rows["amn"][3:9] == ["1", "2", "32", steps, "x", "2"]
    assert "oracle_recall" in plan
    assert "gate, epoch 2: prune unless r@5 >= 1.2 * baseline.last_vector" in plan
    assert "gate, epoch 2: p95_ms <= 20, else continue" in plan
    assert "final, SUCCESS if r@5 >= 0.5" in plan
    assert "final, PRODUCTION READY if contain@50 >= 0.9" in plan
    assert everything_here() == []


def test_a_dry_run_whose_reader_has_read_enough_ends_quietly(experiment: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.launch", str(experiment), "--dry-run"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_a_dry_run_of_what_cannot_fit_is_refused(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, experiment, "--dry-run", "--set", "training.workers=4")
    assert line.startswith("variants.learner: expected at most 2 CPUs (2 on one node), got 4 workers x 1 CPUs = 4; ")


def test_a_dry_run_says_what_a_launch_would_find(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*options: str) -> str:
        capsys.readouterr()
        assert main([str(experiment), "--dry-run", *options]) == 0
        return capsys.readouterr().out.splitlines()[0]

    ends_with(monkeypatch, RuntimeError("executed"))
    assert main([str(experiment)]) == 1
    assert found() == "run folder: runs/rotation (unfinished: a launch continues it)"
    assert found("--set", "seed=4").startswith(
        "run folder: runs/rotation (a launch refuses it: expected the run's own configuration, got seed: 3 -> 4; give"
    )
    assert found("--run-dir", "elsewhere") == "run folder: elsewhere (new)"
    write_json(Path("runs/rotation/results.json"), {})
    assert found() == "run folder: runs/rotation (complete: a launch prints its table again)"


def test_only_keeps_the_named_variants(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(experiment), "--dry-run", "--only", "amn"]) == 0
    plan = capsys.readouterr().out
    assert "\namn " in plan
    assert "\nlearner " not in plan
