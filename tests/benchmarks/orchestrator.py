"""What does the machinery cost? A launch over the bare loop with the same final evaluation, in pairs.

    python -m tests.benchmarks.orchestrator [EXPERIMENT [PAIRS [KEY=VALUE ...]]]    # three pairs of phase5.yaml

The bare loop (bare_loop.py) is run before or after the launch, in turns; figures are medians over the pairs. A first
pair that is not counted fills the caches of both. Linux only: memory and processes are read from /proc.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.io import read_json, read_json_lines

LIMITS = {"wall_over_bare": 1.20, "step_over_bare": 1.08, "gap_in_steps": 8, "processes": 5, "memory_over_bare": 1.25}
# Ray's dashboard with its agents, and the processes of a raylet that run none of our code.
DASHBOARDS = (
    "dashboard",
    "Dashboard",
    "RuntimeEnvAgent",
    "log_monitor",
    "monitor.py",
    "raylet",
    "gcs_server",
    "forkserver",
)
TRIAL, BARE_TRIAL = "ray::ImplicitFunc", "spawn_main"
SAMPLE_S = 0.25


@dataclass(slots=True)
class Watch:
    """What was seen of a command and its descendants while it ran."""

    peak_kib: int = 0  # anonymous memory of one training process: pages of the payload's file are not in it
    names: list[str] = field(default_factory=list)  # of the Python processes while most trials trained
    num_trials: int = 0


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield process and command line of a process and all below it."""
    for folder in Path("/proc").glob("[0-9]*"):
        chain, one = [int(folder.name)], int(folder.name)
        while one > 1 and one != pid:
            one = _parent(one)
            chain.append(one)
        if one == pid:
            try:
                yield chain[0], (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _anonymous_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def run_watched(command: list[str], trial_name: str) -> tuple[float, str, Watch]:
    """Run a command; return its seconds, what it printed, and what was seen of its processes."""
    started, watch = time.perf_counter(), Watch()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S):
            found = [one for one in descendants(process.pid) if one[1]]
            trials = [pid for pid, name in found if trial_name in name]
            watch.peak_kib = max([watch.peak_kib, *map(_anonymous_kib, trials)])
            if len(trials) >= watch.num_trials:
                names = [name for _, name in found if not any(word in name for word in DASHBOARDS)]
                watch.num_trials, watch.names = len(trials), [name[:60] for name in names]

    thread = threading.Thread(target=look)
    thread.start()
    printed, _ = process.communicate()
    over.set()
    thread.join()
    return time.perf_counter() - started, printed, watch


def bare(experiment: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train all variants in the bare loop and evaluate as a run does; return the mean step of each epoch."""
    from data.prepare import prepare_data
    from evaluation.retrieval.corpus import TrainingWindows
    from evaluation.service.actor import Evaluator
    from orchestrator.config.load import load_config
    from orchestrator.questions import make_questions
    from tests.benchmarks.bare_loop import run_bare

    config = load_config(Path(experiment), overrides)
    data = prepare_data(config.data, Path(config.data.cache_dir), seed=config.seed)
    questions = make_questions(config, data)
    val = questions.val
    training = TrainingWindows(train=data.splits.train.rows, val=val.windows, val_novel=val.novel)
    evaluator = Evaluator(
        str(data.payload.path), config.index, questions.sets(), training=training, baselines=config.baselines
    )
    evaluator.baselines("smoke", time_predictions=False)
    evaluator.reach("smoke")
    trained = run_bare(experiment, overrides)
    evaluator.baselines("final")
    for name, found in trained.items():
        evaluator.evaluate(name, "final", found["predictions"])
    evaluator.latencies("final", config.final.latency_queries)
    steps = {}
    for name, found in trained.items():
        size = len(found["step_s"]) // len(found["records"])
        epochs = [found["step_s"][start : start + size] for start in range(0, len(found["step_s"]), size)]
        steps[name] = [statistics.fmean(epoch) for epoch in epochs]
    return {"steps": steps}


def launched(run: Path, variants: list[str]) -> dict[str, list[float]]:
    """Return the mean step of each epoch of a run's trials."""
    records = {name: read_json_lines(run / "variants" / name / "metrics.jsonl") for name in variants}
    return {
        # Epoch 0, of a model that starts from a line, has no steps.
        name: [one["seconds"]["step"] / (one["steps"] / one["epoch"]) for one in found if one["epoch"] > 0]
        for name, found in records.items()
    }


def pair(experiment: str, overrides: tuple[str, ...], bare_first: bool) -> dict[str, Any]:
    """Run both, one after the other; return the figures of LIMITS and what they are made of."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        options = [word for one in overrides for word in ("--set", one)]
        launch = [sys.executable, "-m", "orchestrator.launch", experiment, "--run-dir", str(run), *options]
        alone = [sys.executable, "-m", "tests.benchmarks.orchestrator", "--bare", experiment, *overrides]
        done = {}
        for which in ("bare", "launch") if bare_first else ("launch", "bare"):
            done[which] = run_watched(*((alone, BARE_TRIAL) if which == "bare" else (launch, TRIAL)))
        bare_s, printed, bare_watch = done["bare"]
        wall_s, _, watch = done["launch"]
        timeline = read_json(run / "timeline.json")
        bare_steps = json.loads(printed.splitlines()[-1])["steps"]
        steps = launched(run, list(bare_steps))
    ratios = [ours / theirs for name in steps for ours, theirs in zip(steps[name], bare_steps[name], strict=False)]
    step = statistics.median(value for values in bare_steps.values() for value in values)
    gaps = timeline["gaps_s"] or [float("nan")]
    return {
        "wall_over_bare": wall_s / bare_s,
        "step_over_bare": statistics.median(ratios),
        "gap_in_steps": statistics.median(gaps) / step,
        "processes": len(watch.names),
        "memory_over_bare": watch.peak_kib / max(1, bare_watch.peak_kib),
        "detail": {
            "wall_s": round(wall_s, 1),
            "bare_s": round(bare_s, 1),
            "step_ms": round(1e3 * step, 1),
            "gaps_s": [round(gap, 2) for gap in gaps],
            "first_step_s": timeline["launch_to_first_step_s"],
            "peak_mib": [watch.peak_kib >> 10, bare_watch.peak_kib >> 10],
            "names": watch.names,
        },
    }


def measure(experiment: str, num_pairs: int, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    """Run the pairs; return one result a limit."""
    pair(experiment, (*overrides, "training.epochs=1", "smoke.epochs=[]", "gates.smoke=[]"), bare_first=True)
    pairs = [pair(experiment, overrides, bare_first=number % 2 == 0) for number in range(num_pairs)]
    return [
        {
            "name": name,
            "ratio": round(statistics.median(one[name] for one in pairs), 3),
            "limit": limit,
            "better": "lower",
            "detail": {"experiment": experiment, "pairs": [one["detail"] for one in pairs]},
        }
        for name, limit in LIMITS.items()
    ]


def main(arguments: list[str]) -> None:
    """Print results as JSON objects, one a line."""
    if arguments[:1] == ["--bare"]:
        results = [bare(arguments[1], tuple(arguments[2:]))]
    else:
        experiment, num_pairs, *overrides = [*arguments, *("experiments/phase5.yaml", "3")[len(arguments[:2]) :]]
        results = measure(experiment, int(num_pairs), tuple(overrides))
    sys.stdout.write("".join(json.dumps(result) + "\n" for result in results))


if __name__ == "__main__":
    main(sys.argv[1:])
