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
from orchestrator.command import exit_code, main
from orchestrator.config.load import load_config
from orchestrator.preflight import PreflightError
from orchestrator.run.ledger import Ledger
from orchestrator.run.records import keep_epoch
from orchestrator.state import Measured, Prepared

REPOSITORY = Path(__file__).parents[2]
RUN = Path("runs/rotation")
FRESH_OR_OTHER = "; give another --run-dir or name, or start over with --fresh"
EXECUTED = RuntimeError("executed")


def everything_here() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.fixture
def complaint(experiment: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return what launches the experiment, expects exit code 2 and nothing printed, and returns what it complains."""

    def complain(*options: object, file: object = experiment) -> list[str]:
        assert main([str(file), *map(str, options)]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" or "--dry-run" in options
        return shown.err.splitlines()

    return complain


def num_windows(payload: Path) -> dict[str, int]:
    """Windows in each split of the experiment."""
    splits = prepare_data(DataConfig(source="payload", payload=str(payload)), Path(), seed=3).splits
    return {name: len(table) for name, table in splits.items()}


# ---- wrong input


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("variants.learner.d_modle=64", "{file}: variants.learner.d_modle: unknown key; did you mean d_model?"),
        ("training.epochs=0", "{file}: training.epochs: expected at least 1, got 0; fix the value"),
        ("variants.learner.d_model=33", "{file}: variants.learner.d_model: expected expand * d_model (2 * 33) d"),
        ("baselines=[nothing]", "{file}: baselines: unknown baseline 'nothing'; legal: "),
        ("gates.success_if=['rr@5 >= 1']", "{file}: gates.success_if[0]: unknown metric 'rr@5'; did you mean"),
        ("smoke.epochs=[2, 9]", "{file}: smoke.epochs[1]: expected at most 4 (training.epochs), got 9; "),
        ("seed", "--set seed: expected key.key=value, got no such form; e.g. --set training.epochs=2"),
        ("data.payload=nowhere", "data: expected files, got none at payload: nowhere; fix the paths"),
        ("preflight.waive=[norms]", "preflight.waive: expected names among "),
        (
            "training.batch_size=512",
            "variants.learner.training.batch_size: expected at most the {num_train} training ",
        ),
        ("data.val_share=0.001", "val: expected windows in a split of 0% of the articles, got none"),
        ("data.min_article_chunks=11", "{payload}: expected articles of 11 chunks or more, got none among 120"),
        ("training.workers=4", "variants.learner: expected at most 2 CPUs (2 on one node), got 4 workers x 1 CPUs = 4"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "launch"])
def test_wrong_input_is_one_line_and_nothing_is_written(
    complaint: Callable[..., list[str]],
    experiment: Path,
    rotation_payload: Path,
    *,
    override: str,
    line: str,
    dry: list[str],
) -> None:
    (found,) = complaint("--set", override, *dry)
    num_train = num_windows(rotation_payload)["train"]
    assert found.startswith(line.format(file=experiment, payload=rotation_payload, num_train=num_train))
    assert everything_here() == []


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "launch"])
def test_a_wrong_option_is_one_line(
    complaint: Callable[..., list[str]], experiment: Path, capsys: pytest.CaptureFixture[str], dry: list[str]
) -> None:
    (line,) = complaint("--only", "learned", *dry)
    assert line == f"{experiment}: --only learned: unknown variant; did you mean learner?"
    (line,) = complaint(*dry, file="none.yaml")
    assert line == "none.yaml: expected an experiment file, got no such file; see experiments/ for examples"
    with pytest.raises(SystemExit) as ended:
        main(["x.yaml", "--no-such-option", *dry])
    assert ended.value.code == 2


def test_a_truncated_payload_is_one_line(
    complaint: Callable[..., list[str]], tmp_path: Path, rotation_payload: Path
) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in rotation_payload.iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[: len(content) // 2] if file.name == "vectors.npy" else content)
    (line,) = complaint("--set", f"data.payload={folder}")
    assert line.startswith(f"{folder / 'vectors.npy'}: expected the file as it was written, got 38464 bytes inst")
    assert everything_here() == []


def test_a_missing_index_file_is_named_with_the_others(complaint: Callable[..., list[str]]) -> None:
    (line,) = complaint("--set", "data.payload=a.npy", "--set", "index.file=b.faiss", "--dry-run")
    assert line.startswith("data: expected files, got none at payload: a.npy, index.file: b.faiss; fix ")


def test_an_interpreter_that_ray_cannot_start_is_refused_instead_of_waited_for(
    complaint: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/my project/.venv/bin/python")
    assert complaint() == [
        "python: expected an interpreter under a path without spaces, got /my project/.venv/bin/python; Ray cannot "
        "start its workers from there: move the folder or make the environment elsewhere"
    ]
    assert everything_here() == []


# ---- checks that fail


def failed_check(lines: list[str], name: str) -> list[str]:
    """Verdict, name, value, sign and limit of a check in the table."""
    (line,) = [line for line in lines if name in line.split()[:2]]
    return line.split()[:5]


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "launch"])
def test_a_failed_check_shows_all_checks_and_writes_nothing(
    tmp_path: Path, rotation_payload: Path, experiment: Path, capsys: pytest.CaptureFixture[str], dry: list[str]
) -> None:
    payload = open_payload(rotation_payload)
    longer = write_payload(
        tmp_path / "longer",
        vectors=np.asarray(payload.vectors) * np.float32(1.5),
        article_index=np.asarray(payload.article_index),
        chunk_index=np.asarray(payload.chunk_index),
        embedder="unnormalised",
    )
    assert main([str(experiment), "--set", f"data.payload={longer.path}", *dry]) == 2
    shown = capsys.readouterr()
    table = (shown.out if dry else shown.err).splitlines()
    assert failed_check(table, "unit_norm") == ["FAIL", "unit_norm", "0.5", "<=", "0.001"]
    assert shown.err.splitlines()[-1].startswith("preflight.unit_norm: ")
    assert everything_here() == []


def save_index(file: Path, vectors: np.ndarray) -> str:
    import faiss

    index = faiss.index_factory(vectors.shape[1], "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(file))
    return str(file)


@pytest.fixture
def vectors(rotation_payload: Path) -> np.ndarray:
    return np.array(open_payload(rotation_payload).vectors)


def test_an_index_of_another_payload_is_refused_in_one_line_unless_waived(
    complaint: Callable[..., list[str]],
    tmp_path: Path,
    experiment: Path,
    vectors: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = save_index(tmp_path / "other.faiss", np.ascontiguousarray(vectors[:, ::-1]))
    lines = complaint("--set", f"index.file={file}")
    assert failed_check(lines, "index_vectors") == ["FAIL", "index_vectors", "0", ">=", "0.99"]
    assert lines[-1] == (
        "preflight.index_vectors: expected >= 0.99, got 0 (share of 256 payload rows found under their own number); "
        "it was built from another payload; name the one built from these vectors, "
        "or leave index.file out and an index is built"
    )
    waived = ["--set", "preflight.waive=[index_vectors]", "--dry-run"]
    assert main([str(experiment), "--set", f"index.file={file}", *waived]) == 0
    assert "waived  index_vectors" in capsys.readouterr().out
    assert everything_here() == []


def test_what_stands_beside_an_index_is_held_against_the_payload(
    complaint: Callable[..., list[str]], tmp_path: Path, rotation_payload: Path, vectors: np.ndarray
) -> None:
    file = save_index(tmp_path / "corpus.faiss", vectors)
    (tmp_path / "corpus.json").write_text(json.dumps({"payload_sha256": "ab" * 32}))
    assert complaint("--set", f"index.file={file}")[-1] == (
        "preflight.provenance: expected == 0, got 1 (index.sha256 is abababababab, payload.sha256 is "
        f"{open_payload(rotation_payload).provenance.sha256[:12]}); build payload, windows and index from one "
        "embedding of one corpus"
    )


def test_a_check_of_the_index_that_fails_after_ray_has_started_leaves_no_folder_either(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(prepared: Prepared, *arguments: Any, **options: Any) -> None:
        assert prepared.ledger.log.is_file()  # Ray writes while it starts
        raise PreflightError("preflight.index_fidelity: expected >= 0.9, got 0.5", "the table")

    monkeypatch.setattr(pipeline, "execute", execute)
    assert main([str(experiment)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "the table",
        "preflight.index_fidelity: expected >= 0.9, got 0.5",
    ]
    assert not RUN.exists()


# ---- folders that are not this run's


def test_a_run_is_not_continued_with_another_index(
    complaint: Callable[..., list[str]],
    tmp_path: Path,
    rotation_payload: Path,
    experiment: Path,
    vectors: np.ndarray,
) -> None:
    file = save_index(tmp_path / "corpus.faiss", vectors)
    config = load_config(experiment, (f"index.file={file}",))
    stored = {"config_sha256": config.fingerprint(), "data_sha256": open_payload(rotation_payload).provenance.sha256}
    Ledger(RUN).open(config.resolved(), {**stored, "index_sha256": "ab" * 32})
    (line,) = complaint("--set", f"index.file={file}")
    assert line.startswith(f"{RUN}: expected the run's own index (sha256 abababababababab), got ")
    assert line.endswith(FRESH_OR_OTHER)


def test_the_folder_of_another_experiment_is_refused_and_left_as_it_is(complaint: Callable[..., list[str]]) -> None:
    Ledger(RUN).open({"seed": 4}, {"config_sha256": "c", "data_sha256": "d"})
    before = everything_here()
    (line,) = complaint()
    assert line.startswith(f"{RUN}: expected the run's own configuration, got seed: 4 -> 3; ")
    assert line.endswith(FRESH_OR_OTHER)
    assert everything_here() == before


def test_fresh_does_not_delete_a_folder_that_is_no_run(complaint: Callable[..., list[str]]) -> None:
    Path("precious").mkdir()
    Path("precious/config.yaml").write_text("a: 1")
    Path("precious/thesis.txt").write_text("years")
    (line,) = complaint("--run-dir", "precious", "--fresh")
    assert line.startswith(
        "precious: expected a run folder with its mark, .next-vector.json, got thesis.txt without one;"
    )
    assert Path("precious/thesis.txt").read_text() == "years"


@pytest.mark.parametrize("options", [[], ["--fresh"]], ids=str)
def test_a_file_as_run_folder_is_one_line(complaint: Callable[..., list[str]], options: list[str]) -> None:
    Path("file").write_text("")
    (line,) = complaint("--run-dir", "file", *options)
    assert line == "file: expected a run folder, got a file; give another --run-dir"


# ---- what goes wrong later


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes a launch claim its run folder, `train`, and end by an error, all without a cluster."""

    def end(error: BaseException, train: Callable[[Ledger], object] = lambda ledger: None) -> None:
        def execute(prepared: Prepared, *arguments: Any, **options: Any) -> None:
            pipeline.claim(prepared, Measured(index={}, baselines={}, oracle={}, checks=prepared.checks))
            train(prepared.ledger)
            raise error

        monkeypatch.setattr(pipeline, "execute", execute)

    return end


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("resources.device: expected a GPU"), 2, "resources.device: expected a GPU"),
        (RuntimeError("out of\nluck"), 1, f"RuntimeError: out of luck; the traceback is in {RUN}/ray.log; type "),
        (KeyError("rows"), 1, "KeyError: 'rows'; the traceback is in "),
        # Ray raises what a task raised as an error of both types: no input is wrong when a worker's shape is.
        (ValueError("shapes differ"), 1, "ValueError: shapes differ; the traceback is in "),
        (
            RayTaskError("evaluate", "Traceback ...", ValueError("shapes differ")).as_instanceof_cause(),
            1,
            "ValueError: shapes differ; the traceback is in ",
        ),
        (KeyboardInterrupt(), 130, "interrupted; type the same command again to continue from the last checkpoints"),
        (PermissionError(13, "Permission denied", "x"), 1, "PermissionError: [Errno 13] Permission denied: 'x'; "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_while_it_runs_is_one_line_with_what_to_do(
    experiment: Path,
    capsys: pytest.CaptureFixture[str],
    ends_with: Callable[..., None],
    *,
    error: BaseException,
    code: int,
    line: str,
) -> None:
    ends_with(error)
    assert main([str(experiment), "-v"]) == code
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith(line)
    log = RUN / "ray.log"
    assert log.is_file() == (code == 1)
    assert code != 1 or "Traceback" in log.read_text()


def test_a_folder_that_cannot_be_written_is_one_line(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("a file")
    assert main([str(experiment)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{RUN.resolve()}: expected a place to write, got ")


def test_an_interruption_is_recorded_for_trials_that_had_begun(
    experiment: Path, ends_with: Callable[..., None]
) -> None:
    ledger = Ledger(RUN)
    ends_with(KeyboardInterrupt(), lambda own: keep_epoch(own.variant("learner"), {"epoch": 1}, {}))
    for _ in range(2):
        assert main([str(experiment), "-v"]) == 130
    (line,) = ledger.decisions_of("learner")
    assert (line["action"], line["epoch"], line["reason"]) == ("interrupt", 1, "interrupted")
    assert ledger.decisions_of("amn") == []


# ---- how it ends

ROW = {"variant": "learner", "kind": "variant", "status": "FINISHED", "reason": "", "epochs": 4, "verdict": "TIE"}
AMN = {"variant": "amn", "kind": "baseline", "status": "FINISHED", "reason": "", "epochs": 2}


@pytest.mark.parametrize(
    ("best", "rows", "code"),
    [
        ("learner", [{**ROW, "verdict": "PRODUCTION READY"}, AMN], 0),
        ("learner", [ROW, AMN], 0),
        ("learner", [{**ROW, "verdict": "BEHIND"}, AMN], 3),
        (None, [{**ROW, "status": "PRUNED", "verdict": "REJECT"}, AMN], 3),
        (None, [{**ROW, "status": "FAILED", "verdict": "REJECT"}, AMN], 4),
        ("learner", [ROW, {**AMN, "status": "FAILED"}], 4),
        ("learner", [{**ROW, "seeds": [{"status": "FINISHED"}, {"status": "FAILED"}]}, AMN], 4),
    ],
    ids=["ready", "tie", "behind", "pruned", "failed", "a baseline failed", "a seed failed"],
)
def test_the_exit_code_says_what_the_best_variant_is_worth(best: str | None, rows: list[Any], code: int) -> None:
    assert exit_code({"best": best, "rows": rows}) == code


def test_a_complete_run_prints_its_table_again_and_keeps_its_exit_code(
    experiment: Path, capsys: pytest.CaptureFixture[str], ends_with: Callable[..., None]
) -> None:
    ends_with(EXECUTED)
    assert main([str(experiment)]) == 1
    pruned = {**ROW, "status": "PRUNED", "reason": "r@5 too low", "verdict": "REJECT"}
    results = {"protocol": {"finished_at": "noon"}, "rows": [pruned], "best": None, "verdict": "No variant survived."}
    write_json(RUN / "results.json", results)
    capsys.readouterr()
    assert main([str(experiment)]) == 3
    shown = capsys.readouterr().out
    assert f"{RUN}: complete since noon; --fresh starts over" in shown
    assert "r@5 too low" in shown
    write_json(RUN / "results.json", {**results, "rows": [ROW], "best": "learner"})
    assert main([str(experiment)]) == 0
    assert main([str(experiment), "--fresh"]) == 1
    assert not (RUN / "results.json").exists()


@pytest.mark.parametrize("status", ["FAILED", "INTERRUPTED"])
def test_a_run_with_a_failed_trial_is_gone_on_with(
    experiment: Path, ends_with: Callable[..., None], status: str
) -> None:
    ends_with(EXECUTED)
    assert main([str(experiment)]) == 1
    write_json(RUN / "results.json", {"rows": [ROW, {**AMN, "status": status}], "best": "learner"})
    assert main([str(experiment)]) == 1
    assert (RUN / "results.json").is_file()


# ---- the dry run


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    experiment: Path, rotation_payload: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(experiment), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    plan = shown.out
    assert f"run folder: {RUN} (new)" in plan
    num = num_windows(rotation_payload)
    assert f"data: 1,200 chunks, 16-D, rotation-16, from {rotation_payload}; windows: {num['train']} train, " in plan
    assert "resources: cpu, 2 at once = min of CPUs (2 - 0 reserved) / 1 = 2, memory 64.0 / " in plan
    rows = {line.split()[0]: line.split() for line in plan.splitlines() if line.startswith(("learner", "amn"))}
    # workers, epochs, batch, steps an epoch x epochs; an epoch's short last batch is left out.
    steps = str(num["train"] // 32)
    assert rows["learner"][3:9] == ["1", "4", "32", steps, "x", "4"]
    assert rows["amn"][3:9] == ["1", "2", "32", steps, "x", "2"]
    assert "oracle_recall" in plan
    assert "novel_queries" in plan
    assert "final, REJECT unless r@5 >= 0.5" in plan
    assert everything_here() == []


def test_a_dry_run_whose_reader_has_read_enough_ends_quietly(experiment: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.launch", str(experiment), "--dry-run"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_only_and_run_dir_reach_the_plan(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(experiment), "--dry-run", "--only", "amn", "--run-dir", "elsewhere"]) == 0
    plan = capsys.readouterr().out
    assert plan.startswith("run folder: elsewhere (new)\n")
    assert "\namn " in plan
    assert "\nlearner " not in plan
