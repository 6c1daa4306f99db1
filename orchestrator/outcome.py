"""From final figures to a decision: rows with gates and verdicts, the best variant, results.json, tables and best/."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.table import ComparisonTable
from orchestrator.config import ExperimentConfig
from orchestrator.final import FinalResult, baseline_row, check_final_rules, trained_row
from orchestrator.gates import Metrics, RuleCheck
from orchestrator.ledger import Ledger, Timeline, TrialEnd, write_json, write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the outcome says about the run besides its figures."""

    config: ExperimentConfig
    ledger: Ledger
    timeline: Timeline
    slots: int
    device: str
    index: dict[str, Any]
    num_rows: int
    dim: int
    embedder: str
    waived: list[str]


def conclude(
    facts: Facts,
    ends: dict[str, TrialEnd],
    trained: dict[str, FinalResult],
    untrained: dict[str, FinalResult],
    params: dict[str, int],
) -> dict[str, Any]:
    """Make the rows, decide, and write results.json, the tables, best/ and timeline.json; return the results."""
    config, ledger = facts.config, facts.ledger
    references: dict[str, Metrics] = {name: result.metrics for name, result in untrained.items()}
    references |= {
        name: result.metrics for name, result in trained.items() if config.resolved_variants[name].kind == "baseline"
    }
    rows = []
    for name, variant in config.resolved_variants.items():
        row = trained_row(variant, ends[name], ledger.variant(name).records(), params[name], trained.get(name))
        if variant.kind == "variant":
            row |= _judge(config, row, references)
        rows.append(row)
    rows += [baseline_row(name, result) for name, result in untrained.items()]
    best = select_best(rows)
    results = {
        "protocol": protocol(facts, rows),
        "rows": rows,
        "best": best,
        "verdict": run_verdict(rows, best),
        "pairs": [],
    }
    write_tables(ledger, results)
    if best is not None:
        write_best(ledger, best)
    write_json(ledger.timeline, facts.timeline.summary(facts.slots))
    # Last: a folder with results.json is complete.
    write_json(ledger.results, results)
    return results


def _judge(config: ExperimentConfig, row: dict[str, Any], references: dict[str, Metrics]) -> dict[str, Any]:
    """Return a variant's final gates and verdict."""
    if row["evaluated_on"] != "final":
        return {"gates": [], "verdict": "REJECT"}
    success = check_final_rules(config.gates.success_if, row, references)
    ready = check_final_rules(config.gates.ready_if, row, references)
    return {"gates": [asdict(check) for check in (*success, *ready)], "verdict": verdict_of(success, ready)}


def verdict_of(success: tuple[RuleCheck, ...], ready: tuple[RuleCheck, ...]) -> str:
    """Return PRODUCTION READY (both sets of rules pass), SUCCESS (the first does) or REJECT."""
    if not all(check.passed for check in success):
        return "REJECT"
    return "PRODUCTION READY" if ready and all(check.passed for check in ready) else "SUCCESS"


def select_best(rows: list[dict[str, Any]]) -> str | None:
    """Return the surviving variant with the highest R@5; among equals the lower P95, then fewer parameters."""
    candidates = [
        row
        for row in rows
        if row["kind"] == "variant" and row["evaluated_on"] == "final" and math.isfinite(row.get("r@5", math.nan))
    ]
    if not candidates:
        return None
    return str(min(candidates, key=lambda row: (-row["r@5"], row["p95_ms"], row["params"]))["variant"])


def run_verdict(rows: list[dict[str, Any]], best: str | None) -> str:
    """Return the verdict of the run: the best variant's, or that none survived."""
    if best is None:
        return "NO SURVIVOR"
    return str(next(row["verdict"] for row in rows if row["variant"] == best))


def protocol(facts: Facts, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured on what with what."""
    stored = json.loads(facts.ledger.manifest.read_text(encoding="utf-8"))
    final_queries = next((row["n_queries"] for row in rows if row.get("evaluated_on") == "final"), 0)
    return {
        "experiment": facts.config.name,
        "N": facts.num_rows,
        "D": facts.dim,
        "embedder": facts.embedder,
        "queries": {"final": final_queries, "smoke": facts.config.smoke.queries},
        "index": facts.index,
        "latency": {"batch": 1, "threads": 1, "timed": facts.config.final.latency_queries},
        "device": facts.device,
        "hardware": stored["hardware"],
        "versions": stored["versions"],
        "commit": stored["git_commit"],
        "config_sha256": stored["config_sha256"][:16],
        "data_sha256": stored["data_sha256"][:16],
        "seed": stored["seed"],
        "waived": facts.waived,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_tables(ledger: Ledger, results: dict[str, Any]) -> None:
    """Write the comparison table in every format."""
    table = ComparisonTable.from_results(results)
    write_text(ledger.path / "comparison.md", table.markdown())
    write_text(ledger.path / "comparison.csv", table.csv())


def write_best(ledger: Ledger, best: str) -> None:
    """Make best/: the winner's checkpoint, the configuration, the table, and a sha256 list, complete or not at all."""
    beside = ledger.path / ".best"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    shutil.copy2(ledger.variant(best).best, beside / "best.pt")
    for name in ("config.yaml", "comparison.md", "comparison.csv"):
        shutil.copy2(ledger.path / name, beside / name)
    listing = "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(beside.iterdir()))
    write_text(beside / "SHA256SUMS", listing)
    shutil.rmtree(ledger.best, ignore_errors=True)
    beside.replace(ledger.best)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
