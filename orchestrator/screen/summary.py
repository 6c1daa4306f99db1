"""What is printed before and after the trials: the plan in short, then table, verdict, outputs and where time went."""

from __future__ import annotations

from collections import Counter
from typing import Any

from data.io import read_json, read_json_lines
from evaluation.ending import Ending
from evaluation.report.table import ComparisonTable
from orchestrator.run.ledger import Ledger
from orchestrator.screen.live import LIVE_FILE
from orchestrator.state import Prepared, Session

_OUTPUTS = (
    ("comparison.md", "the table (also .csv .html .tex)"),
    ("report.html", "curves, intervals, queries as text: one page"),
    ("results.json", "every figure, with intervals"),
    ("decisions.jsonl", "every gate and stop decision"),
    ("timeline.json", "where the seconds went"),
    ("best", "the winner, ready to use"),
)


def show_start(prepared: Prepared, session: Session) -> None:
    """Say what is about to run."""
    payload, splits, checks = prepared.data.payload, prepared.data.splits, prepared.checks
    folder = prepared.ledger.path.resolve()
    session.say(f"run       {folder}  (Ray's own output: {prepared.ledger.log.name}; in a browser: {LIVE_FILE})")
    session.say(
        f"data      {payload.num_rows:,} chunks, {payload.dim}-D, {payload.provenance.embedder}; "
        f"windows {len(splits.train):,} train, {len(splits.val):,} validation, {len(splits.test):,} test"
    )
    names = ", ".join(check.name for check in checks if check.waived)
    num = Counter(check.verdict for check in checks)
    waived = f", waived: {names}" if names else ""
    session.say(f"preflight {num['pass']} checks passed{waived}, {num['report']} reported")
    config = prepared.config
    seeds = f"; each under the seeds {', '.join(map(str, config.seeds))}" if config.seeds else ""
    session.say(f"variants  {', '.join(config.resolved_variants)}{seeds}")


def show_end(ledger: Ledger, results: dict[str, Any], session: Session) -> None:
    """Print the table, the verdict, the outputs and where the time went."""
    session.say()
    session.say(decision_text(results))
    if lines := triage_lines(results):
        session.say("\n".join(["", *lines]))
    session.say()
    for name, meaning in _OUTPUTS:
        if (ledger.path / name).exists():
            session.say(f"{ledger.path / name}  {meaning}")
    session.say(time_line(read_json(ledger.timeline)))
    session.say(decision_line(ledger))
    session.say(order_line(results))


def show_complete(ledger: Ledger, results: dict[str, Any], session: Session) -> None:
    """Print the table of a run that was complete before this launch."""
    session.say(f"{ledger.path}: complete since {results['protocol']['finished_at']}; --fresh starts over")
    session.say()
    session.say(decision_text(results))
    session.say(f"{ledger.path / 'comparison.md'}  the whole table")


def decision_text(results: dict[str, Any]) -> str:
    """Return what a person decides from; intervals of pairs, verdicts and protocol stand in comparison.md."""
    return ComparisonTable.from_results(results).terminal()


def triage_lines(results: dict[str, Any]) -> list[str]:
    """Say for every pruned trial what was wrong with its predictions."""
    lines = []
    for row in results["rows"]:
        if "triage" in row:
            wrong = [item for item in row["triage"] if not item["finding"].startswith("yes")]
            said = [f"{item['question']} {item['value']:.3g}, {item['finding']}" for item in wrong]
            lines.append(f"  {row['variant']}: {'; '.join(said) or 'nothing that the triage asks about'}")
    return ["What is wrong with the predictions of pruned trials:", *lines] if lines else []


def order_line(results: dict[str, Any]) -> str:
    """Say whether all trials saw the same data, or which ones did not."""
    orders = results["orders"]
    if orders["differing"]:
        named = ", ".join(orders["differing"])
        return f"orders    warning: {named} saw other windows or another order than it should; do not compare it"
    several = len(results.get("protocol", {}).get("training_seeds") or []) > 1
    return f"orders    equal in all {orders['trials']} trials{' of a seed' * several}, {orders['epochs']} epochs"


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
    lines = read_json_lines(ledger.decisions, ended=True)
    rules = [line for line in lines if line["limit"] is not None and line["action"] != Ending.EARLY_STOPPED]
    pruned = {line["variant"] for line in lines if line["action"] == Ending.PRUNED}
    return f"gates     {len(rules)} rules checked, {len(pruned)} trials pruned"
