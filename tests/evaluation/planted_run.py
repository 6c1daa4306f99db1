"""A small run folder as a finished launch leaves it: real payload, real checkpoints, real evaluation, no training."""

import json
from pathlib import Path

import numpy as np
import yaml

from data.io import write_json

SEED, NUM_ARTICLES, CHUNKS, DIM, CONTEXT = 7, 48, 12, 16, 5
SHARES = {"val_share": 0.1, "test_share": 0.6}  # 13 articles train, 5 validate, 30 test: 210 final queries
NUM_COPIED = 10  # test articles that are near copies of training articles
GATE = {"rule": "r@5 >= 0.01", "metric": "r@5", "value": 0.2, "limit": 0.01, "passed": True}
ANSWER_P95_MS = {"mamba_s": 9.0, "mamba_h": 6.0, "amn": 5.0}  # given, not measured: they decide which one is best
WHY = "contain@50 >= 0.55 at epoch 4: got 0.10"
TRIAGE = [{"question": "is the target within the first 1,000?", "value": 0.2, "finding": "mostly not"}]
SMOKE = {"novel.r@5": 0.032, "r@5": 0.04, "contain@50": 0.10}
PRUNED = {"status": "PRUNED", "reason": WHY, "model": "amn", "epochs": 4, "triage": TRIAGE, **SMOKE}


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def write_payload(folder: Path) -> str:
    """Articles that drift: each chunk is near the one before it, so context predicts the target."""
    from data.payload.store import write_payload as write
    from data.windows.table import build_windows, split_by_article

    rng = np.random.default_rng(0)
    chunks = [rng.standard_normal((NUM_ARTICLES, DIM))]
    for _ in range(CHUNKS - 1):
        chunks.append(0.7 * chunks[-1] + 0.7 * rng.standard_normal((NUM_ARTICLES, DIM)))
    vectors = unit(np.stack(chunks, axis=1))  # (articles, chunks, D)
    article_index = np.repeat(np.arange(NUM_ARTICLES, dtype=np.int32), CHUNKS)
    chunk_index = np.tile(np.arange(CHUNKS, dtype=np.int32), NUM_ARTICLES)
    splits = split_by_article(build_windows(article_index, chunk_index, CONTEXT, CHUNKS), *SHARES.values(), seed=SEED)
    train, test = (np.unique(part.article_index)[:NUM_COPIED] for part in (splits.train, splits.test))
    vectors[test] = unit(vectors[train] + 0.05 * rng.standard_normal((NUM_COPIED, CHUNKS, DIM)))
    write(
        folder,
        vectors=vectors.reshape(-1, DIM),
        article_index=article_index,
        chunk_index=chunk_index,
        texts=[f"<b>chunk {row % CHUNKS}</b> & text of article {row // CHUNKS}" for row in range(len(article_index))],
        titles={article: f"article {article}" for article in range(NUM_ARTICLES)},
        embedder="planted",
        source={},
    )
    return str(folder)


def queries(payload: str):
    """The final queries that the configuration leads to."""
    from data.config import DataConfig
    from data.payload.store import open_payload
    from data.prepare import prepare_splits
    from data.windows.novelty import max_train_cosine
    from data.windows.queries import final_queries
    from evaluation.queries import RunQueries

    opened = open_payload(payload)
    splits = prepare_splits(opened, DataConfig(**data_section(payload)), seed=SEED)
    asked = final_queries(splits, None, SEED)
    nearest = max_train_cosine(opened.vectors, asked.targets, splits.train.rows)
    return RunQueries(asked.rows, asked.article_index, nearest, nearest < 0.9)


def data_section(payload: str) -> dict:
    return {"source": "payload", "payload": payload, "min_article_chunks": 7, "context_length": CONTEXT, **SHARES}


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


def make_run(folder: Path) -> Path:
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

    payload = write_payload(folder / "payload")
    run, asked = folder / "run", queries(payload)
    final = QuerySet("final", asked.windows, asked.novel)
    evaluator = Evaluator(payload, IndexConfig(kind="flat"), [final])
    answers, rows = {}, []
    for place, name in enumerate(("mamba_s", "mamba_h", "amn")):
        predicted = predict(save_variant(run, name, seed=place), payload, asked.windows, latency_queries=5)
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
    protocol |= {"commit": "abc1234", "seed": SEED, "finished_at": "2026-01-01T00:00:00+00:00", "unit": "article"}
    protocol |= {"n_articles": asked.known.num_units(), "n_novel": int(asked.novel.sum()), "novel_below": 0.9}
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
    smoke = [
        {"epoch": 4, "continue_if": ["r@5 >= 0.01"], "prune_unless": ["contain@50 >= 0.9 * baseline.context_mean"]},
        {"epoch": 8, "continue_if": ["r@5 >= 0.99"], "prune_unless": []},
    ]
    variants = {name: {"model": "amn", "d_model": 64, "training": {"epochs": 4}} for name in ("mamba_s", "mamba_h")}
    variants["mamba_h"] |= {"dropout": 0.2, "training": {"epochs": 6}}
    config = {
        "seed": SEED,
        "data": data_section(payload),
        "variants": variants,
        "training": {"val_windows": 4096},
        "smoke": {"queries": 1000},
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
