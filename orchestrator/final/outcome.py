"""From final figures to a decision: rows with gates and verdicts, the best variant, results.json, tables and best/."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.io import file_sha256, read_json, write_json, write_text
from evaluation.ending import RETRIED, Ending, trials_in
from evaluation.measures.rules import Metrics
from evaluation.report.model_card import write_model_card
from evaluation.report.table import ComparisonTable
from evaluation.results import trial_of
from evaluation.statistics.verdict import decide
from models.spec.costs import num_parameters
from models.spec.imported import name_of
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.final.evaluate import Evaluated
from orchestrator.final.orders import check_orders
from orchestrator.final.rows import baseline_row, check_final_rules, trained_row
from orchestrator.final.seeds import lost_seeds, search_entries, seed_entries
from orchestrator.report import render
from orchestrator.run.ledger import Ledger
from orchestrator.run.timeline import Timeline
from orchestrator.screen.live import end_page
from orchestrator.state import Measured, Prepared, Session, Started

RENDERINGS = (*(f"comparison.{suffix}" for suffix in ("md", "csv", "html", "tex")), "report.html")
"""What follows from results.json and the arrays alone."""


def conclude(
    prepared: Prepared, started: Started, measured: Measured, evaluated: Evaluated, timeline: Timeline
) -> dict[str, Any]:
    """Make the rows, decide, and write results.json, the tables, best/ and timeline.json; return the results."""
    config, ledger = prepared.config, prepared.ledger
    rows = make_rows(prepared, evaluated)
    outcomes = {name: result.outcomes for name, result in {**evaluated.trained, **evaluated.untrained}.items()}
    trials = {name: ledger.variant(name).records() for name in config.trials}
    seeds = {name: trial.seed for name, trial in config.trials.items()}
    orders = check_orders(trials, len(prepared.data.splits.train), seeds)
    known = prepared.questions.final.known
    decision = decide(rows, outcomes, known, reference=config.gates.reference, seed=config.seed)
    decision.apply(rows)
    results: dict[str, Any] = {
        "protocol": {
            **protocol(prepared, started, measured),
            "duplicate_share": _duplicate_share(evaluated),
            "orders": f"differ: {', '.join(orders['differing'])}" if orders["differing"] else "equal",
            "warnings": [*failures(rows), *lost_seeds(evaluated.ends), *decision.warnings],
        },
        "rows": rows,
        "best": decision.best,
        "leader": decision.leader,
        "verdict": decision.headline,
        "advice": [*decision.advice],
        "pairs": [pair.to_dict() for pair in decision.pairs],
        "orders": orders,
    }
    ComparisonTable.from_results(results).write(ledger.path)
    if decision.best is not None:
        write_best(ledger, results, prepared.data.payload.path)
    else:
        shutil.rmtree(ledger.best, ignore_errors=True)  # an earlier launch had one
    write_json(ledger.timeline, timeline.summary())
    # A folder with results.json is complete; what comes after can be made again from it.
    write_json(ledger.results, results)
    render(ledger.path)
    end_page(ledger.path, config.name)
    return results


def restore_renderings(prepared: Prepared, results: dict[str, Any], session: Session) -> None:
    """Make again what is missing of a complete run and follows from its other files; else write nothing."""
    ledger = prepared.ledger
    missing = [name for name in RENDERINGS if not (ledger.path / name).is_file()]
    lost_best = results.get("best") is not None and not (ledger.best / "SHA256SUMS").is_file()
    if not missing and not lost_best:
        return
    try:
        if missing:
            ComparisonTable.from_results(results).write(ledger.path)
            render(ledger.path)
        if lost_best:
            write_best(ledger, results, prepared.data.payload.path)
        session.say(f"made again: {', '.join([*missing, *(['best/'] if lost_best else [])])}")
    except OSError as error:
        session.say(f"warning: {', '.join(missing) or 'best/'} cannot be made again: {error}")


def make_rows(prepared: Prepared, evaluated: Evaluated) -> list[dict[str, Any]]:
    """Return a row for every variant, with its final gates where it was evaluated, and for every untrained baseline."""
    config, ledger = prepared.config, prepared.ledger
    references: dict[str, Metrics] = {name: result.metrics for name, result in evaluated.untrained.items()}
    references |= {
        name: result.metrics
        for name, result in evaluated.trained.items()
        if config.resolved_variants[name].kind == "baseline"
    }
    rows = []
    for name, variant in config.resolved_variants.items():
        params = num_parameters(variant.spec, prepared.data.payload.dim)
        found, result = evaluated.ends[name], evaluated.trained.get(name)
        records = {trial: ledger.variant(trial).records() for trial in found.trials}
        row = trained_row(variant, found, records, params, result)
        if config.search is not None:
            row["search"] = search_entries(config, name, found, ledger, prepared.data.payload.dim)
        if len(found.chosen) > 1:
            row["seeds"] = seed_entries(config.trials_of(name), found, evaluated.trials)
        if variant.kind == "variant" and result is not None:
            row["gates"] = _final_gates(config, row, references)
        if found.end.ending is Ending.PRUNED:
            row["triage"] = ledger.variant(found.trial).triage(row["epochs"])
        rows.append(row)
    return rows + [baseline_row(name, result) for name, result in evaluated.untrained.items()]


def _final_gates(
    config: ExperimentConfig, row: dict[str, Any], references: Mapping[str, Metrics]
) -> list[dict[str, Any]]:
    """Return the final rules held against a row, marked with what they decide."""
    stages = {"final": config.gates.success_if, "ready": config.gates.ready_if}
    return [
        {**asdict(check), "stage": stage}
        for stage, rules in stages.items()
        for check in check_final_rules(rules, row, references)
    ]


def protocol(prepared: Prepared, started: Started, measured: Measured) -> dict[str, Any]:
    """Return what was measured on what with what."""
    config, payload, final = prepared.config, prepared.data.payload, prepared.questions.final
    stored = read_json(prepared.ledger.manifest)
    return {
        "experiment": config.name,
        "N": payload.num_rows,
        "D": payload.dim,
        "embedder": payload.provenance.embedder,
        "payload_path": str(payload.path),
        "queries": {"final": len(final), "smoke": len(prepared.questions.smoke)},
        "n_articles": final.known.num_units(),
        "n_novel": int(final.novel.sum()),
        "novel_below": config.evaluation.novel_below,
        "unit": final.known.unit,
        "reranked": config.rerank is not None,
        "own_metrics": [*map(name_of, config.metrics)],
        "repeats_dropped": payload.provenance.source.get("repeats_dropped", 0),
        "index": measured.index["index"],
        "latency": {"batch": 1, "threads": 1, "timed": config.final.latency_queries},
        "device": started.admission.device,
        "hardware": stored["hardware"],
        "versions": stored["versions"],
        "commit": stored["git_commit"],
        "config_sha256": stored["config_sha256"][:16],
        "data_sha256": stored["data_sha256"][:16],
        "seed": stored["seed"],
        "training_seeds": [*config.training_seeds],
        "search": None if config.search is None else config.search.model_dump(mode="json"),
        "waived": [check.name for check in measured.checks if check.waived],
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _duplicate_share(evaluated: Evaluated) -> float | None:
    """Return the share of final queries whose target has an exact copy; every evaluation has counted it."""
    results = [*evaluated.untrained.values(), *evaluated.trained.values()]
    return next((result.metrics.get("duplicate_share") for result in results), None)


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which trials an error ended, and what becomes of them; nothing when none was."""
    trials = [
        {"variant": one.get("trial", row["variant"]), "status": one["status"], "reason": one["reason"]}
        for row in rows
        for one in trials_in(row) or [row]
    ]
    failed = [one for one in trials if one["status"] in RETRIED]
    named = "; ".join(f"{one['variant']} ({one['reason']})" for one in failed)
    again = "the same command tries again and keeps the rest"
    what = "trials and baselines" if len(trials) > len(rows) else "rows"
    return [f"{len(failed)} of {len(trials)} {what} {failed[0]['status']}: {named}; {again}."] if failed else []


def write_best(ledger: Ledger, results: dict[str, Any], payload: Path) -> None:
    """Make best/, complete or not at all: the winner's checkpoint, configuration, card, table, and a sha256 list."""
    beside = ledger.path / ".best"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    shutil.copy2(ledger.variant(trial_of(results, results["best"])).best, beside / "best.pt")
    for name in ("config.yaml", "comparison.md", "comparison.csv"):
        shutil.copy2(ledger.path / name, beside / name)
    write_model_card(beside, ledger.path, results, payload)
    listing = "".join(f"{file_sha256(path)}  {path.name}\n" for path in sorted(beside.iterdir()))
    write_text(beside / "SHA256SUMS", listing)
    shutil.rmtree(ledger.best, ignore_errors=True)
    beside.replace(ledger.best)
