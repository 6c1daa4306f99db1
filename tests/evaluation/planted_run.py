"""A small run folder as a finished launch leaves it: real payload, real checkpoints, real evaluation, no training."""

import json
from pathlib import Path

import numpy as np
import yaml

from data.io import write_json

NUM_ARTICLES, CHUNKS, DIM, CONTEXT = 30, 12, 16, 5
NUM_COPIED = 10  # articles whose targets count as copies of training chunks


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
    from evaluation.service.actor import Evaluator
    from evaluation.service.predict import Predictor

    payload = payload or write_payload(folder / "payload")
    run, asked = folder / "run", queries()
    evaluator = Evaluator(payload, IndexConfig(kind="flat"), {"final": asked.windows})
    answers, rows = {}, []
    gate = {"rule": "r@5 >= 0.01", "metric": "r@5", "value": 0.2, "limit": 0.01, "passed": True}
    for place, name in enumerate(("mamba_s", "mamba_h", "amn")):
        checkpoint = str(save_variant(run, name, seed + place))
        predicted = Predictor().predict(checkpoint, payload, asked.windows, latency_queries=5)
        answers[name] = evaluator.evaluate(name, "final", predicted["predictions"], latency_queries=50)
        write_training_log(run / "variants" / name, 4, slope=0.08 + 0.01 * place)
        extra = {key: predicted[key] for key in ("params", "predict_p95_ms")} | {"model": "amn"}
        extra |= {"checkpoint_sha256": predicted["sha256"], "epochs": 4, "train_s": 10.0, "windows_seen": 4000}
        rows.append(row(name, "baseline" if name == "amn" else "variant", **extra, gates=[gate]))
    for name, answer in evaluator.baselines("final", latency_queries=50).items():
        answers[name] = answer
        rows.append(row(name, "baseline", params=0, predict_p95_ms=0.0))
    for one in rows:
        save_arrays(run / "variants" / one["variant"], answers[one["variant"]])
        one.update(figures(answers[one["variant"]], asked.novel, one["predict_p95_ms"]))
    save_queries(run, asked)
    write_training_log(run / "variants" / "mamba_xl", 4, slope=0.02)
    why = "contain@50 >= 0.55 at epoch 4: got 0.10"
    triage = [{"question": "is the target within the first 1,000?", "value": 0.2, "finding": "mostly not"}]
    smoke = {"novel.r@5": 0.032, "r@5": 0.04, "contain@50": 0.10, "triage": triage}
    rows.append(row("mamba_xl", "variant", status="PRUNED", reason=why, epochs=4, verdict="REJECT", **smoke))
    results = decided(rows, answers, asked.novel)
    protocol = {"payload_path": payload, "N": NUM_ARTICLES * CHUNKS, "D": DIM, "index": evaluator.ready()["index"]}
    protocol |= {"commit": "abc1234", "seed": 7, "finished_at": "2026-01-01T00:00:00+00:00", "unit": "article"}
    protocol |= {"n_articles": NUM_ARTICLES, "n_novel": int(asked.novel.sum()), "novel_below": 0.9}
    protocol |= {"duplicate_share": 0.0, "reranked": False, "repeats_dropped": 12, "orders": "equal"}
    protocol["warnings"] = ["140 novel queries: fewer than 300, so small differences cannot be shown."]
    write_json(run / "results.json", {"protocol": protocol, "rows": rows, **results})
    write_side_files(run, payload)
    return run


def row(name: str, kind: str, **other) -> dict:
    return {"variant": name, "kind": kind, "status": "FINISHED", "reason": ""} | other


def figures(answer: dict, novel: np.ndarray, predict_p95_ms: float) -> dict:
    """The figures of a row: over all queries, over the novel ones, over the others."""
    from evaluation.measures.metrics import hits, summarise
    from evaluation.statistics.significance import intervals

    over_novel, outcomes = part(answer, novel), part(answer, slice(None))
    means = summarise(over_novel.ranks, over_novel.ranks_pool, over_novel.cosine)
    ci = intervals(outcomes, num_resamples=200) | answer["ci"]
    ci |= {f"novel.{name}": bounds for name, bounds in intervals(over_novel, num_resamples=200).items()}
    return {
        **answer["metrics"],
        **{f"novel.{name}": value for name, value in means.items()},
        "n_novel": int(novel.sum()),
        "copied.r@5": float(hits(answer["ranks"][~novel], 5).mean()),
        "exact.r@5": answer["metrics"]["r@5"],  # no two planted chunks are equal
        "answer_p95_ms": answer["metrics"]["p95_ms"] + predict_p95_ms,
        "ci": ci,
    }


def part(answer: dict, chosen):
    from evaluation.statistics.significance import Outcomes

    return Outcomes(*(answer[name][chosen] for name in ("ranks", "ranks_pool", "cosine")))


def decided(rows: list[dict], answers: dict, novel: np.ndarray) -> dict:
    """Verdicts and tie groups into the rows; best, leader, headline, advice and pairs for results.json."""
    from evaluation.statistics.significance import compare_all

    compared = {name: part(answer, novel) for name, answer in answers.items() if name != "context_mean"}
    pairs = [pair.to_dict() | {"n_articles": NUM_ARTICLES - NUM_COPIED} for pair in compare_all(compared, ("r@5",))]
    for pair in pairs:
        pair["metrics"] = {f"novel.{name}": found for name, found in pair["metrics"].items()}
    evaluated = sorted((one for one in rows if one["variant"] in answers), key=lambda one: -one["novel.r@5"])
    leader = evaluated[0]["variant"]
    for one in evaluated:
        one["tie_group"] = 1 if one["variant"] == leader else 2
        if one["kind"] == "variant":
            one |= {"verdict": "TIE", "verdict_why": "1 of 1 final gates passed; it cannot be told from amn"}
    headline = "mamba_h is the best variant; it cannot be told from amn. Tied with mamba_s; among ties the faster"
    advice = ["Train on more articles: 30 are few.", "Try a smaller step: lr 3.0e-4."]
    return {"best": "mamba_h", "leader": leader, "verdict": headline, "advice": advice, "pairs": pairs}


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
        "reason": "contain@50 >= 0.55 at epoch 4: got 0.10",
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
