"""The decision and its files: rows, verdicts, the best variant, results.json, the tables, and best/ ready to use."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.statistics.outcomes import Outcomes
from orchestrator.config.load import load_config
from orchestrator.final import outcome
from orchestrator.final.evaluate import FinalResult
from orchestrator.final.outcome import Facts, conclude, write_best
from orchestrator.run.ledger import Ledger, TrialEnd, append_line
from orchestrator.run.timeline import Timeline

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
  ready_if: ["contain@50 >= 0.99"]
"""
MANIFEST = {
    "config_sha256": "c" * 64,
    "data_sha256": "d" * 64,
    "hardware": {"cpu": "one", "num_cpus": 2},
    "versions": {"ray": "2.60.0"},
    "git_commit": "abc",
    "seed": 0,
}
FINISHED = TrialEnd(status="FINISHED", epoch=1, reason="ran all its epochs")
NUM_QUERIES = 200


def result(share: float, p95_ms: float = 1.0) -> FinalResult:
    """A final result whose target is first for this share of the queries and not found for the others."""
    ranks = (np.arange(NUM_QUERIES) < share * NUM_QUERIES).astype(np.int32)
    return FinalResult(
        metrics={"r@5": share, "contain@50": share, "p95_ms": p95_ms, "n_queries": NUM_QUERIES},
        ci={"p95_ms": (p95_ms, p95_ms)},
        outcomes=Outcomes(ranks=ranks, ranks_pool=ranks, cosine=np.zeros(NUM_QUERIES, np.float32)),
        checkpoint_sha256="abc",
        checkpoint_epoch=1,
    )


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    path = tmp_path / "x.yaml"
    path.write_text(EXPERIMENT)
    config = load_config(path)
    ledger = Ledger(tmp_path / "run")
    ledger.open(config.resolved(), MANIFEST)
    for name in config.resolved_variants:
        ledger.variant(name).path.mkdir(parents=True)
        append_line(ledger.variant(name).metrics, {"epoch": 1, "seconds": {"step": 2.0}, "windows_seen": 64})
        ledger.variant(name).best.write_bytes(f"weights of {name}".encode())
    # The report has its own tests, and takes seconds.
    monkeypatch.setattr(outcome, "render", lambda run: None)
    return Facts(
        config=config,
        ledger=ledger,
        timeline=Timeline(),
        slots=2,
        device="cpu",
        index={"kind": "flat"},
        num_rows=1200,
        dim=16,
        embedder="rotation-16",
        payload_path=tmp_path / "payload",
        waived=[],
    )


def concluded(facts: Facts, trained: dict[str, FinalResult], **ends: TrialEnd) -> dict[str, Any]:
    names = list(facts.config.resolved_variants)
    return conclude(
        facts,
        {name: ends.get(name, FINISHED) for name in names},
        trained,
        {"last_vector": result(0.1)},
        dict(zip(names, (10, 20, 10, 5), strict=True)),
    )


def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in results["rows"]}


PRUNED = TrialEnd(status="PRUNED", epoch=1, reason="r@5 0.01 (limit >= 0.1, failed)")
CLEAR = {"small": result(0.3), "large": result(0.6), "amn": result(0.2)}


def test_the_clearly_better_survivor_is_best(facts: Facts) -> None:
    results = concluded(facts, CLEAR, cut=PRUNED)
    found = rows(results)
    assert results["best"] == "large"
    assert list(found) == ["small", "large", "cut", "amn", "last_vector"]
    assert found["cut"]["status"] == "PRUNED"
    assert found["cut"]["verdict"] == "REJECT"
    assert "gates" not in found["cut"]
    assert (found["amn"]["kind"], found["last_vector"]["kind"]) == ("baseline", "baseline")


def test_final_gates_are_held_against_every_survivor_with_value_and_limit(facts: Facts) -> None:
    found = rows(concluded(facts, CLEAR, cut=PRUNED))
    gates = {(gate["stage"], gate["rule"]): gate for gate in found["large"]["gates"]}
    relative = gates["final", "r@5 >= 2 * baseline.last_vector"]
    assert (relative["value"], relative["limit"], relative["passed"]) == (0.6, 0.2, True)
    assert not gates["ready", "contain@50 >= 0.99"]["passed"]
    assert found["large"]["verdict"] == "SUCCESS"


def test_a_survivor_that_misses_a_final_gate_is_rejected(facts: Facts) -> None:
    slow = {**CLEAR, "small": result(0.3, p95_ms=3.0)}
    found = rows(concluded(facts, slow, cut=PRUNED))
    assert found["small"]["verdict"] == "REJECT"
    assert "p95_ms <= 2" in found["small"]["verdict_why"]


def test_a_better_baseline_is_never_best(facts: Facts) -> None:
    assert concluded(facts, {**CLEAR, "amn": result(0.95)}, cut=PRUNED)["best"] == "large"


def test_among_equals_the_faster_then_the_smaller_is_best(facts: Facts) -> None:
    equal = {"small": result(0.5, p95_ms=1.5), "large": result(0.5, p95_ms=0.5), "amn": result(0.2)}
    assert concluded(facts, equal, cut=PRUNED)["best"] == "large"
    facts = replace(facts, timeline=Timeline())
    equal["small"] = result(0.5, p95_ms=0.5)
    assert concluded(facts, equal, cut=PRUNED)["best"] == "small"


def test_a_survivor_without_a_final_evaluation_is_not_best(facts: Facts) -> None:
    results = concluded(facts, {"small": result(0.3)}, cut=PRUNED)
    assert results["best"] == "small"
    assert rows(results)["large"]["verdict"] == "REJECT"


def test_without_a_survivor_there_is_a_table_and_no_best(facts: Facts) -> None:
    results = concluded(facts, {"amn": result(0.2)}, small=PRUNED, large=PRUNED, cut=PRUNED)
    assert results["best"] is None
    assert "No variant survived" in (facts.ledger.path / "comparison.md").read_text()
    assert not facts.ledger.best.exists()
    assert facts.ledger.is_complete()


def test_results_on_disk_are_what_was_returned_with_null_for_nan(facts: Facts) -> None:
    odd = result(0.6)
    results = concluded(facts, {**CLEAR, "large": replace(odd, metrics={**odd.metrics, "eff@5": math.nan})}, cut=PRUNED)
    stored = json.loads(facts.ledger.results.read_text())
    assert stored["best"] == results["best"]
    assert rows(stored)["large"]["eff@5"] is None
    assert set(stored) == {"protocol", "rows", "best", "verdict", "pairs"}
    protocol = stored["protocol"]
    assert (protocol["N"], protocol["D"], protocol["queries"]["final"]) == (1200, 16, NUM_QUERIES)
    assert (protocol["commit"], protocol["config_sha256"], protocol["data_sha256"]) == ("abc", "c" * 16, "d" * 16)


def test_the_tables_and_the_timeline_are_written(facts: Facts) -> None:
    concluded(facts, CLEAR, cut=PRUNED)
    assert "large" in (facts.ledger.path / "comparison.md").read_text()
    lines = (facts.ledger.path / "comparison.csv").read_text().splitlines()
    assert len(lines) == 1 + 5
    assert json.loads(facts.ledger.timeline.read_text())["slots"] == 2


def test_a_waived_check_is_stamped_into_the_table(facts: Facts) -> None:
    concluded(replace(facts, waived=["article_overlap"]), CLEAR, cut=PRUNED)
    assert "article_overlap" in (facts.ledger.path / "comparison.md").read_text()


def sums_of(folder: Path) -> dict[str, str]:
    """What `sha256sum` would print of a folder's files, but its list."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_best_holds_the_winner_ready_to_use_and_the_sums_of_all_its_files(facts: Facts) -> None:
    concluded(facts, CLEAR, cut=PRUNED)
    best = facts.ledger.best
    assert (best / "best.pt").read_bytes() == b"weights of large"
    assert {"best.pt", "config.yaml", "model_card.md", "comparison.md", "comparison.csv"} <= {
        path.name for path in best.iterdir()
    }
    listed = dict(reversed(line.split("  ")) for line in (best / "SHA256SUMS").read_text().splitlines())
    assert listed == sums_of(best)


def test_best_is_replaced_whole_and_leaves_nothing_beside_it(facts: Facts) -> None:
    results = concluded(facts, CLEAR, cut=PRUNED)
    (facts.ledger.best / "stale").write_text("from an earlier decision")
    (facts.ledger.path / ".best").mkdir()
    (facts.ledger.path / ".best" / "half").write_text("from a launch that died")
    write_best(facts.ledger, {**results, "best": "small"}, facts.payload_path)
    assert (facts.ledger.best / "best.pt").read_bytes() == b"weights of small"
    assert not {"stale", "half"} & {path.name for path in facts.ledger.best.iterdir()}
    assert not (facts.ledger.path / ".best").exists()


def test_without_the_winners_checkpoint_an_earlier_best_stays(facts: Facts) -> None:
    results = concluded(facts, CLEAR, cut=PRUNED)
    facts.ledger.variant("small").best.unlink()
    with pytest.raises(FileNotFoundError):
        write_best(facts.ledger, {**results, "best": "small"}, facts.payload_path)
    assert (facts.ledger.best / "best.pt").read_bytes() == b"weights of large"
