"""What more articles are worth: closed lines, trained baselines and a variant at 5 to 100 % of the training articles.

    python -m tests.benchmarks.learning_curve [EXPERIMENT [VARIANT [KEY=VALUE ...]]]    # phase5.yaml, mamba_s

Three seeds, each with validation and test articles of its own that all shares have in common; which of their queries
are novel depends on what training holds. It prints the means with intervals over articles and draws them as
runs/curve-<name>.svg. Runs are kept as runs/curve-<name>-<share>-<seed>: a second call only prints and draws.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path

from tabulate import tabulate

from evaluation.measures.writing import value_with_interval
from evaluation.report.charts import Axis, Series, line_chart
from evaluation.report.render import TEMPLATES
from evaluation.studies.seed_runs import load_runs
from evaluation.studies.seeds import Pooled, pool
from orchestrator import launch

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
SEEDS = (20, 21, 22)
TRAINED = ("amn", "linear")
BASELINES = ("ridge", "whitened_ridge", *TRAINED)
FIGURES = {"novel.r@5": "novel R@5 %", "novel.contain@50": "novel Contain@50 %"}
WITHOUT_GATES = ("smoke.epochs=[]", "gates.smoke=[]")

Curve = Mapping[float, Pooled]
"""Share of the training articles -> row -> metric -> figure."""


def measure(experiment: str, variant: str, settings: list[str]) -> Curve:
    """Run every share under every seed, or read what an earlier call has left; return the means over seeds."""
    curve = {}
    for share in SHARES:
        runs = []
        for seed in SEEDS:
            name = f"curve-{Path(experiment).stem}-{share}-{seed}"
            own = [f"data.train_share={share}", f"seed={seed}", f"name={name}", *WITHOUT_GATES, *settings]
            launch(experiment, set=own, only=[variant, *TRAINED], quiet=True)
            runs.append(f"runs/{name}")
        curve[share] = pool(load_runs(runs), list(FIGURES), "whitened_ridge")
    return curve


def table(curve: Curve, rows: tuple[str, ...]) -> str:
    """Return one line a share: both figures of the rows, with intervals."""
    lines = [
        [f"{100 * share:.0f} %", *(_cell(pooled, name, key) for key in FIGURES for name in rows)]
        for share, pooled in curve.items()
    ]
    headers = ["articles", *(f"{title} {name}" for title in FIGURES.values() for name in rows)]
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True, colalign=["right"] * len(headers))


def _cell(pooled: Pooled, name: str, key: str) -> str:
    mean = pooled[name][key].mean
    return value_with_interval(mean.value, mean.ci, key)


def drawing(curve: Curve, rows: tuple[str, ...]) -> str:
    """Return an SVG of both figures over the share of articles, which is doubled from tick to tick."""
    smallest = min(curve)
    x = Axis("training articles, %", lambda doublings: f"{100 * smallest * 2**doublings:g}", whole=True)
    charts = []
    for key, title in FIGURES.items():
        lines = {
            name: [(math.log2(share / smallest), 100 * pooled[name][key].mean.value) for share, pooled in curve.items()]
            for name in rows
        }
        series = [Series(name, colour, lines[name], name in BASELINES) for colour, name in enumerate(rows)]
        charts.append(line_chart(title, series, x=x, y=Axis(title, "{:g}".format)))
    template = TEMPLATES.from_string(Path(__file__).with_suffix(".svg.j2").read_text(encoding="utf-8"))
    return template.render(charts=charts, rows=rows, dashed=BASELINES)


def main(arguments: list[str]) -> None:
    """Print the table and write the drawing."""
    experiment, variant, *settings = [*arguments, *("experiments/phase5.yaml", "mamba_s")[len(arguments) :]]
    curve, rows = measure(experiment, variant, settings), (*BASELINES, variant)
    sys.stdout.write(table(curve, rows) + "\n")
    Path(f"runs/curve-{Path(experiment).stem}.svg").write_text(drawing(curve, rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
