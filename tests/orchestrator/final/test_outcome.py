"""The decision and its files: rows, verdicts, the best variant, results.json, the tables, and best/ ready to use."""

import hashlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.io import append_json_line, write_json
from data.windows.stream import epoch_order, order_digest
from evaluation.ending import Ending
from evaluation.measures.latency import Latency
from evaluation.statistics.outcomes import Outcomes
from orchestrator.final import outcome
from orchestrator.final.evaluate import Evaluated
from orchestrator.final.outcome import conclude, restore_renderings, write_best
from orchestrator.final.result import FinalResult
from orchestrator.final.seeds import VariantEnd
from orchestrator.run.ledger import TrialEnd
from orchestrator.run.timeline import Timeline
from orchestrator.state import Measured, Prepared, Session, Started
from tests.orchestrator.conftest import admission

EXPERIMENT = """
name: decided
variants:
  small: {model: mamba_s, d_model: 32}
  large: {model: mamba_s, d_model: 64}
  cut: {model: mamba_s, d_model: 32}
  amn: {d_model: 32}
baselines: [last_vector]
gates:
  success_if: ["r@5 >= 2 * baseline.last_vector", "p95_ms <= 2"]
  ready_if: ["contain@50 >= 0.55"]
"""
MANIFEST = {
    "config_sha256": "c" * 64,
    "data_sha256": "d" * 64,
    "hardware": {"cpu": "one", "num_cpus": 2},
    "versions": {"ray": "2.60.0"},
    "git_commit": "abc",
    "seed": 0,
}
FINISHED = TrialEnd(ending=Ending.FINISHED, epoch=1, reason="ran all its epochs")
NUM_QUERIES = 200


def result(share: float, p95_ms: float = 1.0) -> FinalResult:
    """A final result whose target is first for this share of the queries and not found for the others.

    Hits are spread over articles and over novel and copied queries alike.
    """
    ranks = (np.arange(NUM_QUERIES) // 2 % 10 < 10 * share).astype(np.int32)
    figures = dict.fromkeys(("r@5", "contain@50", "novel.r@5", "novel.contain@50"), share)
    return FinalResult(
        metrics={**figures, "p95_ms": p95_ms, "answer_p95_ms": p95_ms, "n_queries": NUM_QUERIES},
        ci={"answer_p95_ms": (p95_ms, p95_ms)},
        outcomes=Outcomes(ranks=ranks, ranks_pool=ranks, cosine=np.zeros(NUM_QUERIES, np.float32)),
        predict=Latency(np.ones(5)),
        chosen={},
        checkpoint_sha256="abc",
        checkpoint_epoch=1,
    )


@pytest.fixture
def run(prepared_from: Callable[[str], Prepared], monkeypatch: pytest.MonkeyPatch) -> Prepared:
    prepared = prepared_from(EXPERIMENT)
    ledger = prepared.ledger
    ledger.open(prepared.config.resolved(), MANIFEST)
    for name in prepared.config.resolved_variants:
        ledger.variant(name).path.mkdir(parents=True)
        append_json_line(ledger.variant(name).metrics, {"epoch": 1, "seconds": {"step": 2.0}, "windows_seen": 64})
        ledger.variant(name).best.write_bytes(f"weights of {name}".encode())
    # The report has its own tests, and takes seconds.
    monkeypatch.setattr(outcome, "render", lambda run: None)
    return prepared


def ended(name: str, end: TrialEnd) -> VariantEnd:
    return VariantEnd(end=end, trial=name, trials={name: end}, chosen=(name,))


def concluded(
    run: Prepared, trained: dict[str, FinalResult], checks: tuple[Any, ...] = (), **ends: TrialEnd
) -> dict[str, Any]:
    return conclude(
        run,
        Started(admission=admission(), evaluator=None, windows=None, line=None, orders=None),
        Measured(index={"index": {"kind": "flat"}}, baselines={}, oracle={}, checks=checks),
        Evaluated(
            ends={name: ended(name, ends.get(name, FINISHED)) for name in run.config.resolved_variants},
            trained=trained,
            untrained={"last_vector": result(0.1)},
            trials=trained,
        ),
        Timeline(),
    )


def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in results["rows"]}


def rows_gates(row: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(gate["stage"], gate["rule"]): gate for gate in row["gates"]}


PRUNED = TrialEnd(ending=Ending.PRUNED, epoch=1, reason="r@5 0.01 (limit >= 0.1, failed)")
CLEAR = {"small": result(0.3), "large": result(0.6), "amn": result(0.2)}


def test_the_clearly_better_survivor_is_best(run: Prepared) -> None:
    results = concluded(run, CLEAR, cut=PRUNED)
    found = rows(results)
    assert results["best"] == "large"
    assert list(found) == ["small", "large", "cut", "amn", "last_vector"]
    assert found["cut"]["status"] == "PRUNED"
    assert found["cut"]["verdict"] == "REJECT"
    assert "gates" not in found["cut"]
    assert (found["amn"]["kind"], found["last_vector"]["kind"]) == ("baseline", "baseline")


def test_final_gates_are_held_against_every_survivor_with_value_and_limit(run: Prepared) -> None:
    found = rows(concluded(run, CLEAR, cut=PRUNED))
    gates = rows_gates(found["large"])
    relative = gates["final", "r@5 >= 2 * baseline.last_vector"]
    assert (relative["value"], relative["limit"], relative["passed"]) == (0.6, 0.2, True)
    assert gates["ready", "contain@50 >= 0.55"]["passed"]
    assert not rows_gates(found["small"])["ready", "contain@50 >= 0.55"]["passed"]


def test_a_survivor_that_misses_a_final_gate_is_rejected(run: Prepared) -> None:
    slow = {**CLEAR, "small": result(0.3, p95_ms=3.0)}
    found = rows(concluded(run, slow, cut=PRUNED))
    assert found["small"]["verdict"] == "REJECT"
    assert "p95_ms <= 2" in found["small"]["verdict_why"]


def test_without_an_accepted_survivor_nothing_is_best_and_an_earlier_best_goes(run: Prepared) -> None:
    concluded(run, CLEAR, cut=PRUNED)
    assert run.ledger.best.is_dir()
    slow = {"small": result(0.3, p95_ms=3.0), "amn": result(0.2)}
    assert concluded(run, slow, cut=PRUNED, large=PRUNED)["best"] is None
    assert not run.ledger.best.exists()


def test_a_pruned_trials_row_has_its_triage(run: Prepared) -> None:
    write_json(run.ledger.variant("cut").smoke(1), {"triage": [{"question": "why?"}]})
    found = rows(concluded(run, CLEAR, cut=PRUNED))
    assert found["cut"]["triage"] == [{"question": "why?"}]
    assert "triage" not in found["large"]


def test_the_orders_that_the_trials_saw_stand_in_the_protocol(run: Prepared) -> None:
    right = order_digest(epoch_order(640, 0, 1))
    for name in ("small", "large"):
        run.ledger.variant(name).metrics.write_text(
            json.dumps({"epoch": 1, "seconds": {}, "windows_seen": 64, "order_digest": right}) + "\n"
        )
    assert concluded(run, CLEAR, cut=PRUNED)["orders"] == {"trials": 2, "epochs": 1, "differing": []}
    run.ledger.variant("large").metrics.write_text(
        json.dumps({"epoch": 1, "seconds": {}, "windows_seen": 64, "order_digest": "another"}) + "\n"
    )
    assert concluded(run, CLEAR, cut=PRUNED)["protocol"]["orders"] == "differ: large"


def test_a_better_baseline_leads_and_leaves_no_variant_best(run: Prepared) -> None:
    results = concluded(run, {**CLEAR, "amn": result(0.9)}, cut=PRUNED)
    assert (results["best"], results["leader"]) == (None, "amn")
    assert {rows(results)[name]["verdict"] for name in ("small", "large")} == {"BEHIND"}
    assert results["advice"]
    assert not run.ledger.best.exists()


@pytest.mark.parametrize("p95_ms", [0.5, 1.5])
def test_among_equals_the_smaller_is_best_however_busy_the_machine_was(run: Prepared, p95_ms: float) -> None:
    equal = {"small": result(0.5, p95_ms=p95_ms), "large": result(0.5, p95_ms=1.0), "amn": result(0.2)}
    assert concluded(run, equal, cut=PRUNED)["best"] == "small"


def test_a_survivor_without_a_final_evaluation_is_not_best(run: Prepared) -> None:
    results = concluded(run, {"small": result(0.6)}, cut=PRUNED)
    assert results["best"] == "small"
    assert rows(results)["large"]["verdict"] == "REJECT"


def test_without_a_survivor_there_is_a_table_and_no_best(run: Prepared) -> None:
    results = concluded(run, {"amn": result(0.2)}, small=PRUNED, large=PRUNED, cut=PRUNED)
    assert results["best"] is None
    assert "No variant survived" in (run.ledger.path / "comparison.md").read_text()
    assert not run.ledger.best.exists()
    assert run.ledger.is_complete()


def test_results_on_disk_are_what_was_returned_with_null_for_nan(run: Prepared) -> None:
    odd = result(0.6)
    results = concluded(run, {**CLEAR, "large": replace(odd, metrics={**odd.metrics, "eff@5": math.nan})}, cut=PRUNED)
    stored = json.loads(run.ledger.results.read_text())
    assert stored["best"] == results["best"]
    assert rows(stored)["large"]["eff@5"] is None
    assert set(stored) == {"protocol", "rows", "best", "leader", "verdict", "advice", "pairs", "orders"}
    protocol = stored["protocol"]
    assert (protocol["N"], protocol["D"], protocol["queries"]["final"]) == (1200, 16, NUM_QUERIES)
    assert (protocol["n_articles"], protocol["n_novel"], protocol["unit"]) == (50, 100, "article")
    assert (protocol["commit"], protocol["config_sha256"], protocol["data_sha256"]) == ("abc", "c" * 16, "d" * 16)


def test_the_tables_and_the_timeline_are_written(run: Prepared) -> None:
    concluded(run, CLEAR, cut=PRUNED)
    assert "large" in (run.ledger.path / "comparison.md").read_text()
    lines = (run.ledger.path / "comparison.csv").read_text().splitlines()
    assert len(lines) == 1 + 5
    assert "wall_s" in json.loads(run.ledger.timeline.read_text())


def test_a_waived_check_is_stamped_into_the_table(run: Prepared) -> None:
    concluded(run, CLEAR, (SimpleNamespace(name="article_overlap", waived=True),), cut=PRUNED)
    assert "article_overlap" in (run.ledger.path / "comparison.md").read_text()


def sums_of(folder: Path) -> dict[str, str]:
    """What `sha256sum` would print of a folder's files, but its list."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_best_holds_the_winner_ready_to_use_and_the_sums_of_all_its_files(run: Prepared) -> None:
    concluded(run, CLEAR, cut=PRUNED)
    best = run.ledger.best
    assert (best / "best.pt").read_bytes() == b"weights of large"
    assert {"best.pt", "config.yaml", "model_card.md", "comparison.md", "comparison.csv"} <= {
        path.name for path in best.iterdir()
    }
    listed = dict(reversed(line.split("  ")) for line in (best / "SHA256SUMS").read_text().splitlines())
    assert listed == sums_of(best)


def test_best_is_replaced_whole_and_leaves_nothing_beside_it(run: Prepared) -> None:
    results = concluded(run, CLEAR, cut=PRUNED)
    (run.ledger.best / "stale").write_text("from an earlier decision")
    (run.ledger.path / ".best").mkdir()
    (run.ledger.path / ".best" / "half").write_text("from a launch that died")
    write_best(run.ledger, {**results, "best": "small"}, run.data.payload.path)
    assert (run.ledger.best / "best.pt").read_bytes() == b"weights of small"
    assert not {"stale", "half"} & {path.name for path in run.ledger.best.iterdir()}
    assert not (run.ledger.path / ".best").exists()


def test_without_the_winners_checkpoint_an_earlier_best_stays(run: Prepared) -> None:
    results = concluded(run, CLEAR, cut=PRUNED)
    run.ledger.variant("small").best.unlink()
    with pytest.raises(FileNotFoundError):
        write_best(run.ledger, {**results, "best": "small"}, run.data.payload.path)
    assert (run.ledger.best / "best.pt").read_bytes() == b"weights of large"


def test_what_is_missing_of_a_complete_run_is_made_again_and_nothing_else_is_written(
    run: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = concluded(run, CLEAR, cut=PRUNED)
    (run.ledger.path / "report.html").write_text("a page")
    session = Session(stream=io.StringIO())
    before = {path: path.stat().st_mtime_ns for path in run.ledger.path.rglob("*")}
    restore_renderings(run, results, session)
    assert {path: path.stat().st_mtime_ns for path in run.ledger.path.rglob("*")} == before
    (run.ledger.path / "comparison.csv").unlink()
    (run.ledger.best / "SHA256SUMS").unlink()
    restore_renderings(run, results, session)
    assert (run.ledger.path / "comparison.csv").is_file()
    assert (run.ledger.best / "best.pt").read_bytes() == b"weights of large"
    assert session.stream.getvalue() == "made again: comparison.csv, best/\n"


def test_on_a_disk_that_cannot_be_written_a_complete_run_is_shown_all_the_same(
    run: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = concluded(run, CLEAR, cut=PRUNED)

    def refused(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(outcome.ComparisonTable, "write", refused)
    session = Session(stream=io.StringIO())
    restore_renderings(run, results, session)
    assert session.stream.getvalue().startswith("warning: report.html cannot be made again: [Errno 30]")
