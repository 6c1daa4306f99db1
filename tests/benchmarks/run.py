"""Runs the benchmarks and writes bench.json: a list of {name, ratio, limit, better, detail}.

    python -m tests.benchmarks.run            the ratios that take minutes (make bench)
    python -m tests.benchmarks.run --scale    those at 584,545 x 768 as well (make bench-scale)

Each file runs in a process of its own, one after the other: they time things, and FAISS and torch never share one.
A file prints its results as JSON objects. Exit code 1 when a ratio misses its limit.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

QUICK = ("statistics", "models_speed", "data_scale")
SCALE = ("statistics", "models_speed", "data_scale full", "evaluation_index", "evaluation_smoke", "baselines")
OUTPUT = Path("bench.json")


def run(command: str) -> list[dict[str, Any]]:
    """Run one benchmark file and return what it printed."""
    name, *arguments = command.split()
    module = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments]
    done = subprocess.run(module, stdout=subprocess.PIPE, text=True, check=False)
    results = parse(done.stdout)
    if not results:
        raise RuntimeError(f"tests.benchmarks.{name}: expected results as JSON, got none (exit code {done.returncode})")
    return results


def parse(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that stand one after the other in a text."""
    decoder, results, position = json.JSONDecoder(), [], 0
    while (start := text.find("{", position)) >= 0:
        found, position = decoder.raw_decode(text, start)
        results.append(found)
    return results


def met(result: dict[str, Any]) -> bool:
    """Return whether a ratio keeps its limit, or its two limits; NaN does not."""
    ratio, limit = result["ratio"], result["limit"]
    if result["better"] == "between":
        return bool(limit[0] <= ratio <= limit[1])
    return bool(ratio <= limit if result["better"] == "lower" else ratio >= limit)


def words(result: dict[str, Any]) -> str:
    """Return the limit as text."""
    if result["better"] == "between":
        return "{:g} to {:g}".format(*result["limit"])
    return f"{'<=' if result['better'] == 'lower' else '>='} {result['limit']:g}"


def main() -> int:
    """Run, print, write."""
    results = [result for command in (SCALE if "--scale" in sys.argv else QUICK) for result in run(command)]
    OUTPUT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    rows = [[r["name"], f"{r['ratio']:.3g}", words(r), met(r), r["detail"]] for r in results]
    print(tabulate(rows, headers=["name", "ratio", "limit", "met", "detail"], disable_numparse=True))  # noqa: T201
    return 0 if all(met(result) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
