"""A small run folder as a finished launch leaves it: real payload, real checkpoints, real evaluation, no training."""

import json
from pathlib import Path

import numpy as np
import yaml

from data.io import write_json

NUM_ARTICLES, CHUNKS, DIM, CONTEXT = 30, 12, 16, 5
NUM_COPIED = 10  # articles whose targets count as copies of training chunks
GATE = {"rule": "r@5 >= 0.01", "metric": "r@5", "value": 0.2, "limit": 0.01, "passed": True}
ANSWER_P95_MS = {"mamba_s": 9.0, "mamba_h": 6.0, "amn": 5.0}  # given, not measured: they decide which one is best
WHY = "contain@50 >= 0.55 at epoch 4: got 0.10"
TRIAGE = [{"question": "is the target within the first 1,000?", "value": 0.2, "finding": "mostly not"}]
SMOKE = {"novel.r@5": 0.032, "r@5": 0.04, "contain@50": 0.10}
PRUNED = {"status": "PRUNED", "reason": WHY, "model": "amn", "epochs": 4, "triage": TRIAGE, **SMOKE}


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write_payload(folder: Path, seed: int = 0) -> str:
    """Articles that drift: each chunk is near the one before it, so context predicts the target."""
    from data.payload.store import write_payload as write

    rng = np.random.default_rng(seed)
    chunks = [rng.standard_normal((NUM_ARTICLES, DIM))]
    for _ in range(CHUNKS - 1):
        chunks.append(0.7 * chunks[-1] + 0.7 * rng.standard_normal((NUM_ARTICLES, DIM)))
    num_rows = NUM_ARTICLES * CHUNKS
    write(
        folder,
        vectors=unit(np.stack(chunks, axis=1).reshape(num_rows, DIM)),
        article_index=np.repeat(np.arange(NUM_ARTICLES, dtype=np.int32), CHUNKS),
        chunk_index=np.tile(np.arange(CHUNKS, dtype=np.int32), NUM_ARTICLES),
        texts=[f"<b>chunk {row % CHUNKS}</b> & text of article {row // CHUNKS}" for row in range(num_rows)],
        titles={article: f"article {article}" for article in range(NUM_ARTICLES)},
        embedder="planted",
        source={},
    )
    return str(folder)


def queries():
    """Every window of every article, as queries.npz holds them."""
    from evaluation.queries import RunQueries

    start = np.concatenate([np.arange(CHUNKS - CONTEXT) + CHUNKS * article for article in range(NUM_ARTICLES)])
    article = start // CHUNKS
    nearest = np.where(article < NUM_COPIED, 1.0, 0.5).astype(np.float32)
    windows = (start[:, None] + np.arange(CONTEXT + 1)).astype(np.int32)
    return RunQueries(windows, article.astype(np.int32), nearest, nearest < 0.9)


def save_variant(run: Path, name: str, seed: int, epoch: int = 4) -> Path:
    """An untrained AMN: with its residual on the context it already predicts something."""
    import torch

    from models.blocks.build import build_variant
    from models.training.checkpoint import save_model

    torch.manual_seed(seed)
    folder = run / "variants" / name
    folder.mkdir(parents=True)
    save_model(folder / "best.pt", build_variant("amn", DIM), epoch=epoch, metrics={}, provenance={})
    return folder / "best.pt"


def write_training_log(folder: Path, epochs: int, slope: float) -> None:
    folder.mkdir(exist_ok=True)
    lines = [
        {
            "epoch": epoch,
            "loss": 5.0 / epoch,
            "val_loss": 5.5 / epoch,
            "val_cosine": slope * epoch,
            "windows_seen": 1000 * epoch,
            "seconds": {"data": 0.5, "step": 2.0},
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for epoch in (2, 4):
        metrics = {"r@5": slope / 2 * epoch, "contain@50": 2 * slope * epoch, "p95_ms": 0.1}
        novel = {f"novel.{name}": 0.8 * metrics[name] for name in ("r@5", "contain@50")}
        write_json(folder / f"smoke_epoch{epoch}.json", {"epoch": epoch, "metrics": metrics | novel})


def make_run(folder: Path, seed: int = 0, payload: str | None = None) -> Path:
    """The run folder; two variants, one pruned variant, AMN and the untrained baselines."""
    from evaluation.config import IndexConfig
    from evaluation.queries import save_queries
    from evaluation.results import save_arrays
    from evaluation.retrieval.corpus import QuerySet
    from evaluation.service.actor import Evaluator
    from evaluation.service.predict import predict
    from evaluation.statistics.outcomes import Outcomes
    from evaluation.statistics.resampling import intervals
    from evaluation.statistics.verdict import decide

    payload = payload or write_payload(folder / "payload")
    run, asked = folder / "run", queries()
    final = QuerySet("final", asked.windows, asked.novel)
    evaluator = Evaluator(payload, IndexConfig(kind="flat"), [final])
    answers, rows = {}, []
    for place, name in enumerate(("mamba_s", "mamba_h", "amn")):
        predicted = predict(save_variant(run, name, seed + place), payload, asked.windows, latency_queries=5)
        answers[name] = evaluator.evaluate(name, "final", predicted["predictions"], latency_queries=50)
        answers[name]["metrics"]["predict_p95_ms"] = predicted["predict_p95_ms"]
        write_training_log(run / "variants" / name, 4, slope=0.08 + 0.01 * place)
        about = {"model": "amn", "params": predicted["params"], "checkpoint_sha256": predicted["sha256"]}
        about |= {"epochs": 4, "train_s": 10.0, "windows_seen": 4000, "gates": [GATE]}
        rows.append(row(name, "baseline" if name == "amn" else "variant", **about))
    for name, answer in evaluator.baselines("final", latency_queries=50).items():
        answers[name] = answer
        rows.append(row(name, "baseline", model=None, params=0, chosen=answer["chosen"]))
    for one in rows:
        answer = answers[one["variant"]]
        save_arrays(run / "variants" / one["variant"], answer)
        one.update(answer["metrics"], answer_p95_ms=ANSWER_P95_MS.get(one["variant"], 0.1))
        one["ci"] = dict(intervals(Outcomes.of(answer), asked.known, num_resamples=200)) | answer["ci"]
    write_training_log(run / "variants" / "mamba_xl", 4, slope=0.02)
    rows.append(row("mamba_xl", "variant", **PRUNED))
    outcomes = {name: Outcomes.of(answer) for name, answer in answers.items()}
    decision = decide(rows, outcomes, asked.known, reference="amn", num_resamples=200)
    decision.apply(rows)
    protocol = {"payload_path": payload, "N": NUM_ARTICLES * CHUNKS, "D": DIM, "index": evaluator.ready()["index"]}
    protocol |= {"commit": "abc1234", "seed": 7, "finished_at": "2026-01-01T00:00:00+00:00", "unit": "article"}
    protocol |= {"n_articles": NUM_ARTICLES, "n_novel": int(asked.novel.sum()), "novel_below": 0.9}
    protocol |= {"duplicate_share": 0.0, "reranked": False, "repeats_dropped": 12, "orders": "equal"}
    results = {"protocol": protocol | {"warnings": decision.warnings}, "rows": rows, "best": decision.best}
    results |= {"leader": decision.leader, "verdict": decision.headline, "advice": decision.advice}
    write_json(run / "results.json", results | {"pairs": [pair.to_dict() for pair in decision.pairs]})
    save_queries(run, asked)
    write_side_files(run, payload)
    return run


def row(name: str, kind: str, **other) -> dict:
    return {"variant": name, "kind": kind, "status": "FINISHED", "reason": ""} | other


def write_side_files(run: Path, payload: str) -> None:
    write_windows(run, payload)
    smoke = [
        {"epoch": 4, "continue_if": ["r@5 >= 0.01"], "prune_unless": ["contain@50 >= 0.9 * baseline.context_mean"]},
        {"epoch": 8, "continue_if": ["r@5 >= 0.99"], "prune_unless": []},
    ]
    variants = {name: {"model": "amn", "d_model": 64, "training": {"epochs": 4}} for name in ("mamba_s", "mamba_h")}
    variants["mamba_h"] |= {"dropout": 0.2, "training": {"epochs": 6}}
    config = {
        "seed": 7,
        "data": {"source": "payload", "payload": payload, "min_article_chunks": 7},
        "variants": variants,
        "training": {"val_windows": 100},
        "smoke": {"queries": None},
        "final": {"queries": None},
        "evaluation": {"novel_below": 0.9},
        "index": {"kind": "flat"},
        "gates": {"smoke": smoke, "success_if": ["r@5 >= 0.01"]},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    decision = {
        "time": "2026-01-01T00:00:00+00:00",
        "variant": "mamba_xl",
        "epoch": 4,
        "rule": "contain@50 >= 0.55",
        "value": 0.10,
        "limit": 0.55,
        "passed": False,
        "action": "prune",
        "reason": WHY,
    }
    (run / "decisions.jsonl").write_text(json.dumps(decision) + "\n")
    check = {"name": "unit_norm", "value": 1.0, "limit": 0.001, "relation": "<=", "passed": True, "waived": False}
    check |= {"warning": False, "hint": "", "detail": ""}
    write_json(run / "preflight.json", [check])
    seconds = {"mamba_s": {"start_up": 3.0, "step": 10.0, "smoke": 1.0}, "mamba_xl": {"step": 5.0}}
    trials = {name: {"seconds": spent} for name, spent in seconds.items()}
    phases = [{"name": "training", "seconds": 15.0}]
    write_json(run / "timeline.json", {"wall_s": 19.0, "trials": trials, "phases": phases})


def write_windows(run: Path, payload: str) -> None:
    """The same windows in all three splits: smoke and final queries are then easy to foresee."""
    from data.payload.store import open_payload
    from data.windows.table import Splits, WindowProvenance, build_windows, save_windows

    opened = open_payload(payload)
    table = build_windows(opened.article_index, opened.chunk_index, CONTEXT, CONTEXT + 1)
    provenance = WindowProvenance(
        payload_sha256=opened.provenance.sha256, context_length=CONTEXT, min_article_chunks=CONTEXT + 1, seed=7
    )
    save_windows(run / "windows", Splits(train=table, val=table, test=table), provenance)
