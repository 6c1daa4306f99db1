"""What more articles are worth: both lines, AMN and a variant at 5, 10, 25, 50 and 100 % of the training articles.

    python -m tests.benchmarks.learning_curve [EXPERIMENT [VARIANT [KEY=VALUE ...]]]    # phase5.yaml, mamba_sandwich

Validation and test articles stay the same; which of their queries are novel depends on what training holds. Runs are
kept as runs/curve-<name>-<share>, and a second call only prints the table.
"""

import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

from orchestrator import launch

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
BASELINES = ("ridge", "whitened_ridge", "amn")
FIGURES = (("novel.r@5", "novel R@5 %"), ("novel.contain@50", "novel Contain@50 %"))


def measure(experiment: str, variant: str, settings: list[str]) -> dict[float, dict[str, Any]]:
    """Run every share, or read what an earlier call has left; return the results."""
    found = {}
    for share in SHARES:
        name = f"curve-{Path(experiment).stem}-{share}"
        own = [f"data.train_share={share}", "smoke.epochs=[]", "gates.smoke=[]", f"name={name}", *settings]
        found[share] = launch(experiment, set=own, only=[variant, "amn"], quiet=True)
    return found


def table(found: dict[float, dict[str, Any]], variant: str) -> str:
    """Return one line a share: both figures of the three rows, with intervals."""
    lines = []
    for share, results in found.items():
        rows = {row["variant"]: row for row in results["rows"]}
        cells = [_cell(rows[name], key) for key, _ in FIGURES for name in (*BASELINES, variant)]
        lines.append([f"{100 * share:.0f} %", f"{results['protocol']['n_novel']:,}", *cells])
    headers = [
        "articles",
        "novel queries",
        *(f"{title} {name}" for _, title in FIGURES for name in (*BASELINES, variant)),
    ]
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True, colalign=["right"] * len(headers))


def _cell(row: dict[str, Any], key: str) -> str:
    low, high = row["ci"][key]
    return f"{100 * row[key]:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def main(arguments: list[str]) -> None:
    """Print the table."""
    experiment, variant, *settings = [*arguments, *("experiments/phase5.yaml", "mamba_sandwich")[len(arguments) :]]
    sys.stdout.write(table(measure(experiment, variant, settings), variant) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
