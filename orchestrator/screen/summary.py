"""What is printed before and after the trials: the plan in short, then table, verdict, outputs and where time went."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from evaluation.report.table import ComparisonTable
from orchestrator.run.ledger import Ledger
from orchestrator.state import Run

BEST, NO_SURVIVOR = 0, 3
_OUTPUTS = (
    ("comparison.md", "the table (also .csv .html .tex)"),
    ("report.html", "curves, intervals, queries as text: one page"),
    ("results.json", "every figure, with intervals"),
    ("decisions.jsonl", "every gate and stop decision"),
    ("timeline.json", "where the seconds went"),
    ("best", "the winner, ready to use"),
)


def show_start(run: Run) -> None:
    """Say what is about to run."""
    config, splits = run.config, run.data.splits
    run.say(f"run       {run.ledger.path}  (Ray's own output: {run.ledger.log})")
    run.say(
        f"data      {run.data.payload.num_rows:,} chunks, {run.data.payload.dim}-D, "
        f"{run.data.payload.provenance.embedder}; "
        f"windows {len(splits.train):,} train, {len(splits.val):,} validation, {len(splits.test):,} test"
    )
    names = ", ".join(check.name for check in run.checks if check.waived)
    num = Counter(check.verdict for check in run.checks)
    waived = f", waived: {names}" if names else ""
    run.say(f"preflight {num['pass']} checks passed{waived}, {num['report']} reported")
    run.say(f"variants  {', '.join(config.resolved_variants)}")


def show_end(run: Run, results: dict[str, Any]) -> None:
    """Print the table, the verdict, the outputs and where the time went."""
    run.say()
    run.say(decision_text(results))
    if results["best"] is None:
        run.say()
        run.say(triage(run.ledger, results))
    run.say()
    for name, meaning in _OUTPUTS:
        if (run.ledger.path / name).exists():
            run.say(f"{run.ledger.path / name}  {meaning}")
    run.say(time_line(json.loads(run.ledger.timeline.read_text(encoding="utf-8"))))
    run.say(decision_line(run.ledger))


def show_complete(run: Run) -> None:
    """Print the table of a run that was complete before this launch."""
    results = json.loads(run.ledger.results.read_text(encoding="utf-8"))
    run.say(f"{run.ledger.path}: complete since {results['protocol']['finished_at']}; --fresh starts over")
    run.say()
    run.say(decision_text(results))
    run.say(f"{run.ledger.path / 'comparison.md'}  the whole table")


def decision_text(results: dict[str, Any]) -> str:
    """Return what a person decides from; intervals of pairs, verdicts and protocol stand in comparison.md."""
    return ComparisonTable.from_results(results).terminal()


def exit_code(ledger: Ledger) -> int:
    """Return 0 when a best variant was selected, 3 when none survived."""
    return BEST if json.loads(ledger.results.read_text(encoding="utf-8"))["best"] is not None else NO_SURVIVOR


def triage(ledger: Ledger, results: dict[str, Any]) -> str:
    """Say why no variant survived: what ended each one, and the answers that its last smoke evaluation gave."""
    lines = ["No variant survived:"]
    for row in results["rows"]:
        if row["kind"] != "variant":
            continue
        lines.append(f"  {row['variant']}: {row['status']}, {row['reason']}")
        smoke = ledger.variant(row["variant"]).smoke(row["epochs"])
        answers = json.loads(smoke.read_text(encoding="utf-8")).get("triage", []) if smoke.is_file() else []
        lines += [f"    {item['question']} {item['value']:.3g}: {item['finding']}" for item in answers]
    return "\n".join(lines)


def time_line(timeline: dict[str, Any]) -> str:
    """Say where the wall time went, in one line."""
    phases = ", ".join(f"{phase['name']} {phase['seconds']:.0f} s" for phase in timeline["phases"])
    first = timeline["launch_to_first_step_s"]
    gaps = timeline["gaps_s"]
    parts = [f"time      {timeline['wall_s']:.0f} s: {phases}"]
    parts.append(
        f"          {100 * timeline['step_share_of_slots']:.0f} % of {timeline['slots']} slots in training steps"
    )
    if first is not None:
        parts[-1] += f"; launch to first step {first:.1f} s"
    if gaps:
        parts[-1] += f"; a trial's end to the next one's first step {', '.join(f'{gap:.1f}' for gap in gaps)} s"
    return "\n".join(parts)


def decision_line(ledger: Ledger) -> str:
    """Say how often gates were evaluated: a scheduler that never fires looks like one that works."""
    from orchestrator.run.ledger import read_lines

    lines = read_lines(ledger.decisions)
    rules = [line for line in lines if line["limit"] is not None and line["action"] != "early_stop"]
    pruned = {line["variant"] for line in lines if line["action"] == "prune"}
    return f"gates     {len(rules)} rules checked, {len(pruned)} trials pruned"
