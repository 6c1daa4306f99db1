"""One checkpoint against its gates: the line that people grep for, then each gate; exit 0 if all pass, 1 if not.

    python -m evaluation.checkpoint --checkpoint runs/phase5/variants/mamba_s/best.pt --limit 1000 --epoch 4
    python -m evaluation.checkpoint --checkpoint best.pt --payload corpus.npy --eval queries.npz --index ivf_flat

A checkpoint inside a run folder brings its payload, queries, index and gates with it: with --epoch the smoke queries
and the gates of that epoch, without it the final ones. Elsewhere --payload and --eval name the files, and the gates
are those of the original protocol, or of --gate. What a run imports from somebody else is imported only when --trust
names it. FAISS is in this process, torch in another.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from data.errors import MissingFileError, UserError, check_range, one_line
from data.foreign.formats import import_payload
from data.foreign.sequences import read_sequences
from data.io import write_json
from data.output import check_file, json_mark, mark
from data.payload.store import Payload, open_payload
from data.prepare import prepare_splits
from data.seeding import derive_seed
from data.windows.queries import final_queries, smoke_queries, validation_queries
from data.windows.table import WindowTable, sample_queries
from evaluation.config import INDEX_KINDS, IndexConfig, RerankConfig
from evaluation.measures.latency import MIN_TIMED_SMOKE
from evaluation.measures.metrics import metric, register_metrics, split_prefix
from evaluation.measures.rules import ORIGINAL_GATES, Rule, RuleCheck, check_rule, parse_rule
from evaluation.queries import with_novelty
from evaluation.results import RESULTS_FILE, data_config, load_results, run_payload, trial_of
from evaluation.retrieval.baselines import ALL_BASELINES
from evaluation.retrieval.corpus import QuerySet, TrainingWindows
from evaluation.service.actor import Evaluator
from evaluation.service.process import in_own_process
from models.spec.imported import is_import_path, name_of

KIND = "evaluation of a checkpoint"
"""What the file of --out calls itself, see data.output."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """The queries, and what baselines are fitted on where a run says it."""

    queries: QuerySet
    truth_cosine: Float64  # (Q,) cosine of the given target and the payload's row
    training: TrainingWindows | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What the run has from somebody else, by name in rules, and the import paths that may be imported."""

    metrics: dict[str, str]
    baselines: dict[str, str]
    trusted: tuple[str, ...]

    @classmethod
    def of(cls, config: dict[str, Any], trusted: Sequence[str]) -> Imported:
        """Read a run's configuration."""

        def named(key: str) -> dict[str, str]:
            return {name_of(path): path for path in config.get(key) or () if is_import_path(path)}

        return cls(metrics=named("metrics"), baselines=named("baselines"), trusted=tuple(trusted))

    @property
    def trusted_metrics(self) -> list[str]:
        """Return the import paths of the metrics that rules may name."""
        return [path for path in self.metrics.values() if path in self.trusted]

    def check(self, named: str, paths: dict[str, str]) -> None:
        """Raise UserError when a rule names what is not trusted."""
        path = paths.get(named)
        if path is not None and path not in self.trusted:
            raise UserError(
                f"expected a metric or baseline of this project, got {named}, which the run imports from {path}; "
                f"trust it by its name (--trust {path}), if you do, or give other rules with --gate"
            )


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that is needed to judge a checkpoint."""

    checkpoint: Path
    run: Path | None  # the run folder around the checkpoint, if there is one
    payload: Payload
    asked: Asked
    index: IndexConfig
    rerank: RerankConfig | None  # the run's
    waive: tuple[str, ...]  # checks of an index file that may fail
    rules: tuple[Rule, ...]
    imported: Imported


def prepare(args: argparse.Namespace, scratch: Path) -> Task:
    """Find payload, queries, index and gates of a checkpoint.

    Raises:
        MissingFileError, UserError: in one line.
    """
    checkpoint = Path(args.checkpoint)
    if not checkpoint.is_file():
        raise MissingFileError(f"{checkpoint}: expected a checkpoint, got no file; check the path")
    run = _run_around(checkpoint)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) if run else {}
    payload = _payload(args.payload, run, scratch)
    asked = _asked_in_run(args, config, payload) if run and args.eval is None else _asked_in_file(args, config, payload)
    rules = args.gate or _gates(config, args.epoch)
    kind = {"kind": args.index, "file": None} if args.index else {}
    index = IndexConfig(**{**config.get("index", {}), **kind})
    waive = tuple(config.get("preflight", {}).get("waive", ()))
    rerank = RerankConfig(**config["rerank"]) if config.get("rerank") is not None else None
    imported = Imported.of(config, args.trust or ())
    register_metrics(imported.trusted_metrics)
    parsed = tuple(_rule(text, imported) for text in rules)
    return Task(checkpoint, run, payload, asked, index, rerank, waive, parsed, imported)


def evaluate(task: Task, device: str) -> tuple[dict[str, Any], list[RuleCheck]]:
    """Metrics of the checkpoint on the queries, and its gates."""
    wanted = sorted({rule.baseline for rule in task.rules if rule.baseline})
    entries = {name: name for name in ALL_BASELINES} | task.imported.baselines
    untrained = [name for name in wanted if name in entries]
    evaluator = Evaluator(
        str(task.payload.path),
        task.index,
        [task.asked.queries],
        training=task.asked.training,
        baselines=[entries[name] for name in untrained],
        metrics=task.imported.trusted_metrics,
        rerank=task.rerank,
        waive=task.waive,
    )
    answers = evaluator.baselines("queries") if untrained else {}
    baselines = {name: answer["metrics"] for name, answer in answers.items()}
    baselines |= {name: _trained(evaluator, task, name, device) for name in wanted if name not in untrained}
    metrics = _evaluate_one(evaluator, task, task.checkpoint, device)
    metrics["index"] = evaluator.ready()["index"]
    return metrics, [check_rule(rule, metrics, baselines) for rule in task.rules]


def _evaluate_one(evaluator: Evaluator, task: Task, checkpoint: Path, device: str) -> dict[str, Any]:
    predicted = in_own_process(
        *("evaluation.service.predict", "predict"),
        *(checkpoint, task.payload.path, task.asked.queries.windows),
        device=device,
        latency_queries=200,
        trusted=task.imported.trusted,
    )
    timed = max(MIN_TIMED_SMOKE, len(task.asked.queries))
    answer = evaluator.evaluate(str(checkpoint), "queries", predicted.pop("predictions"), latency_queries=timed)
    del predicted["predict_ms"]  # the samples behind predict_p95_ms
    return {**answer["metrics"], **predicted}


def _trained(evaluator: Evaluator, task: Task, name: str, device: str) -> dict[str, Any]:
    trained = task.run / "variants" / _trial_in(task.run, name) / "best.pt" if task.run else None
    if trained is None or not trained.is_file():
        raise UserError(
            f"baseline.{name}: expected one of {', '.join(ALL_BASELINES)} or a trained variant, got neither; "
            "give other rules with --gate"
        )
    return _evaluate_one(evaluator, task, trained, device)


def _trial_in(run: Path, name: str) -> str:
    """The trial that stands for a row of a run: with several seeds the one that its results name."""
    return trial_of(load_results(run), name) if (run / RESULTS_FILE).is_file() else name


def _run_around(checkpoint: Path) -> Path | None:
    """RUN of RUN/variants/<variant>/best.pt, when it has a config.yaml."""
    run = checkpoint.resolve().parent.parent.parent
    return run if (run / "config.yaml").is_file() else None


def _payload(named: str | None, run: Path | None, scratch: Path) -> Payload:
    if named is None:
        if run is None:
            raise UserError("--payload: expected a payload, got none; a checkpoint outside a run folder needs one")
        return open_payload(run_payload(run))
    if (Path(named) / "payload.json").is_file():
        return open_payload(Path(named))
    return import_payload(Path(named), scratch / "payload")


def _asked_in_run(args: argparse.Namespace, config: dict[str, Any], payload: Payload) -> Asked:
    """Return the very samples of the run: smoke queries are validation windows, final ones test windows."""
    seed = int(config["seed"])
    splits = prepare_splits(payload, data_config(config["data"]), seed=seed)
    if args.epoch is None:
        table = final_queries(splits, args.limit or config["final"]["queries"], seed)
    else:
        table = smoke_queries(splits, args.limit or config["smoke"]["queries"], seed)
    tables = {"asked": table, "val": validation_queries(splits, config["training"]["val_windows"], seed)}
    found = with_novelty(tables, payload.vectors, splits.train.rows, config["evaluation"]["novel_below"])
    asked, val = found["asked"], found["val"]
    training = TrainingWindows(splits.train.rows, val.windows, val.novel)
    return Asked(QuerySet("queries", asked.windows, asked.novel), np.ones(len(table)), training)


def _asked_in_file(args: argparse.Namespace, config: dict[str, Any], payload: Payload) -> Asked:
    """Return the queries of a file; which of them are novel is not known."""
    if args.eval is None:
        raise UserError("--eval: expected queries, got none; a checkpoint outside a run folder needs them")
    given = read_sequences(Path(args.eval), payload)
    everything = np.arange(len(given.table), dtype=np.int32)
    seed = derive_seed(int(config.get("seed", 0)), "final")
    chosen = sample_queries(WindowTable(everything[:, None], everything), args.limit, seed).rows[:, 0]
    return Asked(QuerySet("queries", given.table.rows[chosen]), given.target_cosine[chosen].astype(np.float64))


def _rule(text: str, imported: Imported) -> Rule:
    try:
        rule = parse_rule(text)
        imported.check(split_prefix(rule.metric)[1], imported.metrics)
        imported.check(rule.baseline or "", imported.baselines)
        metric(rule.metric)
    except UserError as error:
        raise UserError(f"gate: {error}") from error
    return rule


def _gates(config: dict[str, Any], epoch: int | None) -> tuple[str, ...]:
    """Return the gates of a smoke epoch, or the final ones; UserError for an epoch without a smoke evaluation."""
    of_run = "gates" in config
    gates = (config["gates"].get("smoke") or ()) if of_run else ()
    legal = [*config.get("smoke", {}).get("epochs", ()), *(one["epoch"] for one in gates)] if of_run else ORIGINAL_GATES
    if epoch is not None and epoch not in legal:
        known = ", ".join(str(one) for one in dict.fromkeys(legal) if one is not None) or "none"
        raise UserError(f"--epoch: expected a smoke epoch ({known}), got {epoch}; leave it out for the final gates")
    if not of_run:
        return ORIGINAL_GATES.get(epoch, ())
    if epoch is None:
        return tuple(config["gates"].get("success_if") or ())
    found = [gate for gate in gates if gate["epoch"] == epoch]
    return tuple(rule for gate in found for key in ("continue_if", "prune_unless") for rule in gate.get(key) or ())


def eval_line(metrics: dict[str, Any], truth_cosine: Float64) -> str:
    """The line that people grep for."""
    shown = (("Contain@20", "contain@20"), ("Contain@50", "contain@50"), ("R@1", "r@1"), ("R@5", "r@5"))
    shares = " ".join(f"{name}={metrics[key]:.3f}" for name, key in (*shown, ("R@10", "r@10"), ("Eff@5", "eff@5")))
    mean, p5 = float(truth_cosine.mean()), float(np.percentile(truth_cosine, 5))
    return f"[EVAL] {shares} P95={metrics['p95_ms']:.2f}ms truth->payload_cos(mean={mean:.3f}, p5={p5:.3f})"


def gate_lines(judged: list[RuleCheck]) -> str:
    """One line a gate: passed or failed, rule, value, limit."""
    if not judged:
        return "no gates at this epoch"
    return "\n".join(
        f"{'pass' if one.passed else 'FAIL'}  {one.rule}: got {_shown(one.value)}, limit {one.limit:.4g}"
        for one in judged
    )


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="best.pt or last.pt of a variant")
    parser.add_argument("--limit", type=int, help="how many queries; default: all")
    parser.add_argument("--epoch", type=int, help="whose gates; default: the final ones")
    parser.add_argument("--payload", help="payload folder, or a file that data.foreign.formats reads")
    parser.add_argument("--eval", help="npz of query sequences that data.foreign.sequences reads")
    parser.add_argument("--index", choices=INDEX_KINDS, help="kind of index; default: the run's, else auto")
    parser.add_argument("--gate", action="append", help="a rule instead of the run's; may be repeated")
    parser.add_argument("--device", default="cpu", help="where the model runs")
    parser.add_argument("--trust", action="append", help="import path that checkpoint or run may name; may be repeated")
    parser.add_argument("--out", help="JSON file for metrics and gates")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line: 0 all gates pass, 1 one fails, 2 wrong input."""
    args = _parser().parse_args(argv)
    try:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", args.device):
            raise UserError(f"--device: expected cpu, cuda, cuda:<number> or mps, got {args.device}; name one of them")
        check_range("--limit", args.limit, 1)
        check_range("--epoch", args.epoch, 1)
        if args.out:
            check_file(Path(args.out), KIND, json_mark, [Path(args.checkpoint)])
        with tempfile.TemporaryDirectory() as scratch:
            task = prepare(args, Path(scratch))
            metrics, judged = evaluate(task, args.device)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    sys.stdout.write(f"{eval_line(metrics, task.asked.truth_cosine)}\n{gate_lines(judged)}\n")
    if args.out:
        content = {
            "made_by": mark(KIND),
            "metrics": metrics,
            "gates": [asdict(one) for one in judged],
            "epoch": args.epoch,
        }
        write_json(args.out, content)
    return 0 if all(one.passed for one in judged) else 1
