"""From final figures to a decision: rows with gates and verdicts, the best variant, results.json, tables and best/."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.measures.rules import Metrics
from evaluation.report.model_card import write_model_card
from evaluation.report.table import ComparisonTable
from evaluation.statistics.outcomes import Queries
from evaluation.statistics.verdict import decide
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.final.evaluate import FinalResult, baseline_row, check_final_rules, trained_row
from orchestrator.report import render
from orchestrator.run.ledger import Ledger, TrialEnd, write_json, write_text
from orchestrator.run.manifest import file_sha256
from orchestrator.run.timeline import Timeline


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
    payload_path: Path
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
        if variant.kind == "variant" and row["evaluated_on"] == "final":
            row["gates"] = _final_gates(config, row, references)
        rows.append(row)
    rows += [baseline_row(name, result) for name, result in untrained.items()]
    outcomes = {name: result.outcomes for name, result in {**trained, **untrained}.items()}
    queries = Queries.independent(max(map(len, outcomes.values()), default=0))
    decision = decide(rows, outcomes, queries, reference=config.gates.reference, seed=config.seed)
    decision.apply(rows)
    best = decision.best
    results: dict[str, Any] = {
        "protocol": protocol(facts, rows),
        "rows": rows,
        "best": best,
        "verdict": decision.headline,
        "pairs": [pair.to_dict() for pair in decision.pairs],
    }
    ComparisonTable.from_results(results).write(ledger.path)
    if best is not None:
        write_best(ledger, results, facts.payload_path)
    write_json(ledger.timeline, facts.timeline.summary(facts.slots))
    # A folder with results.json is complete; what comes after can be made again from it.
    write_json(ledger.results, results)
    render(ledger.path)
    return results


def _final_gates(config: ExperimentConfig, row: dict[str, Any], references: dict[str, Metrics]) -> list[dict[str, Any]]:
    """Return the final rules held against a row, marked with what they decide."""
    stages = {"final": config.gates.success_if, "ready": config.gates.ready_if}
    return [
        {**asdict(check), "stage": stage}
        for stage, rules in stages.items()
        for check in check_final_rules(rules, row, references)
    ]


def protocol(facts: Facts, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured on what with what."""
    stored = json.loads(facts.ledger.manifest.read_text(encoding="utf-8"))
    final_queries = next((row["n_queries"] for row in rows if row.get("evaluated_on") == "final"), 0)
    return {
        "experiment": facts.config.name,
        "N": facts.num_rows,
        "D": facts.dim,
        "embedder": facts.embedder,
        "payload_path": str(facts.payload_path),
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


def write_best(ledger: Ledger, results: dict[str, Any], payload: Path) -> None:
    """Make best/, complete or not at all: the winner's checkpoint, configuration, card, table, and a sha256 list."""
    beside = ledger.path / ".best"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    shutil.copy2(ledger.variant(results["best"]).best, beside / "best.pt")
    for name in ("config.yaml", "comparison.md", "comparison.csv"):
        shutil.copy2(ledger.path / name, beside / name)
    write_model_card(beside, ledger.path, results, payload)
    listing = "".join(f"{file_sha256(path)}  {path.name}\n" for path in sorted(beside.iterdir()))
    write_text(beside / "SHA256SUMS", listing)
    shutil.rmtree(ledger.best, ignore_errors=True)
    beside.replace(ledger.best)
