"""The whole pipeline against known truth: every world of data.worlds, each row as a share of what its oracle finds.

    python -m tests.benchmarks.worlds [--out DIR] [NAME ...]     # 10 to 17 minutes for all on two cores

Each world is a run of experiments/worlds.yaml, and its oracle is evaluated on the run's final queries as a row is.
recall has worlds_recall.yaml. Where a line, or nothing, is to be learned, one epoch is trained. Two worlds run at a
time, one trial of each: a launch has phases that keep one core busy.
Written into worlds.json: {world: {row: share of the oracle's novel R@5}}; printed: the table with verdicts, and what a
world must show and did not. Exit codes: 0 all of it was shown, 1 otherwise.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from data.io import write_json
from data.payload.store import open_payload
from data.worlds.make import WORLDS, make_world, write_world
from evaluation.config import IndexConfig
from evaluation.measures.metrics import DECISION_METRIC
from evaluation.queries import load_queries
from evaluation.retrieval.corpus import QuerySet
from evaluation.service.actor import Evaluator
from orchestrator import launch

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
HARD = {"switch": "worlds.yaml", "recall": "worlds_recall.yaml"}
"""What a line cannot do; in the other worlds nothing is left to learn beside it, and one epoch shows that."""
MAMBA = ("mamba_s", "mamba_sandwich", "mamba_h", "mamba_xl")
AT_LEAST = {
    "rotation": dict.fromkeys(("ridge", *MAMBA), 0.95),
    "switch": dict.fromkeys(MAMBA, 0.85),
    "memory": dict.fromkeys(MAMBA, 0.9),
    "recall": {"mamba_sandwich": 0.8},
}
"""Shares of the oracle; in recall attention finds by content, so one variant that has it must."""
AT_MOST = {"switch": {"ridge": 0.6}}
NOTHING_READY = ("topic", "noise", "boilerplate")
LONGEST_FIRST = (*HARD, "memory")
AT_ONCE = 2


def oracle_figures(name: str, payload: Path, run: Path) -> dict[str, float]:
    """Return the oracle's metrics on the final queries of a run."""
    world, queries = make_world(name), load_queries(run)
    asked = QuerySet("final", queries.windows, queries.novel)
    vectors = open_payload(payload).vectors
    evaluator = Evaluator(str(payload), IndexConfig(kind="flat"), [asked])
    predictions = world.oracle(np.asarray(vectors[asked.context]))
    found: dict[str, float] = evaluator.evaluate("oracle", "final", predictions)["metrics"]
    return found


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Make a world, run the experiment on it, say how it ended, and return its results and the oracle's figures."""
    payload, run = folder / name / "payload", folder / name / "run"
    world = make_world(name)
    write_world(world, payload, name)
    settings = {"name": f"world-{name}", "data.payload": str(payload), "data.context_length": world.context_length}
    settings["resources.max_concurrent"] = 1
    settings |= {} if name in HARD else {"training.epochs": 1}
    results = launch(EXPERIMENTS / HARD.get(name, "worlds.yaml"), set=settings, run_dir=run, quiet=True)
    sys.stderr.write(f"{name}: {results['verdict']}\n")
    return {"results": results, "oracle": oracle_figures(name, payload, run)}


def measure_all(names: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Measure worlds in processes of their own; return them in the order of the names."""
    longest_first = sorted(names, key=lambda name: name not in LONGEST_FIRST)
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn")) as pool:
        running = {name: pool.submit(measure, name, folder) for name in longest_first}
        return {name: running[name].result() for name in names}


def shares(found: dict[str, Any]) -> dict[str, float]:
    """Return each evaluated row's share of the oracle's novel R@5."""
    best = found["oracle"][DECISION_METRIC]
    rows = [row for row in found["results"]["rows"] if row.get(DECISION_METRIC) is not None]
    return {row["variant"]: row[DECISION_METRIC] / best if best else float("nan") for row in rows}


def missed(name: str, found: dict[str, Any]) -> list[str]:
    """Return what a world must show and did not, a line each."""
    share, rows = shares(found), {row["variant"]: row for row in found["results"]["rows"]}
    lines = [
        f"{name}: expected {row} to find {sign} {limit} of what the oracle finds, got {share[row]:.3f}"
        for sign, limits, holds in ((">=", AT_LEAST, float.__ge__), ("<=", AT_MOST, float.__le__))
        for row, limit in limits.get(name, {}).items()
        if not holds(share[row], limit)
    ]
    if name in NOTHING_READY:
        ready = [variant for variant, row in rows.items() if row.get("verdict") == "PRODUCTION READY"]
        lines += [f"{name}: expected no variant to be ready, got {variant}" for variant in ready]
    if name == "boilerplate" and max(rows, key=lambda row: rows[row]["r@5"]) != "nearest_context":
        lines.append(f"{name}: expected nearest_context to have the best R@5 over all queries, got another row")
    return lines


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the table world x row: shares of the oracle in per cent, and the headline of each run below it."""
    names = list(dict.fromkeys(row for one in found.values() for row in shares(one)))
    lines = []
    for world, one in found.items():
        share = shares(one)
        cells = [f"{100 * share[name]:.0f}" if name in share else "-" for name in names]
        lines.append([world, f"{100 * one['oracle'][DECISION_METRIC]:.1f}", *cells])
    headlines = "\n".join(f"{world}: {one['results']['verdict']}" for world, one in found.items())
    return f"{tabulate(lines, headers=['world', 'oracle R@5 %', *names], disable_numparse=True)}\n\n{headlines}\n"


def main(arguments: list[str]) -> int:
    """Run the named worlds, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.worlds", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(WORLDS))
    parser.add_argument("--out", type=Path, default=Path("artifacts/worlds"))
    options = parser.parse_args(arguments)
    found = measure_all(list(dict.fromkeys(options.names)), options.out)
    write_json(options.out / "worlds.json", {name: shares(one) for name, one in found.items()})
    lines = [line for name, one in found.items() for line in missed(name, one)]
    sys.stdout.write("\n".join([table(found), *lines, ""]))
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
