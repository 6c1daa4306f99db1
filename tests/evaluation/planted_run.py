"""A small run folder as a finished launch leaves it: real payload, real checkpoints, real evaluation, no training."""

import json
from pathlib import Path

import numpy as np

NUM_ARTICLES, CHUNKS, DIM, CONTEXT = 30, 12, 16, 5


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


def all_windows() -> np.ndarray:
    """(Q, L + 1): every window of every article."""
    start = np.concatenate([np.arange(CHUNKS - CONTEXT) + CHUNKS * article for article in range(NUM_ARTICLES)])
    return (start[:, None] + np.arange(CONTEXT + 1)).astype(np.int32)


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


def write_training_log(run: Path, name: str, epochs: int) -> None:
    lines = [
        {
            "epoch": epoch,
            "train_loss": 5.0 / epoch,
            "val_loss": 5.5 / epoch,
            "val_cosine": 0.1 * epoch,
            "windows_seen": 1000 * epoch,
            "train_s": 2.5 * epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    (run / "variants" / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for epoch in (2, 4):
        smoke = {"epoch": epoch, "metrics": {"r@5": 0.05 * epoch, "contain@50": 0.2 * epoch, "p95_ms": 0.1}}
        (run / "variants" / name / f"smoke_epoch{epoch}.json").write_text(json.dumps(smoke))


def make_run(folder: Path, seed: int = 0, payload: str | None = None) -> Path:
    """The run folder; two variants, one pruned variant, AMN and the untrained baselines."""
    from evaluation.config import IndexConfig
    from evaluation.queries import RunQueries, save_queries
    from evaluation.results import save_arrays, save_results
    from evaluation.service.actor import Evaluator
    from evaluation.service.predict import Predictor
    from evaluation.statistics.outcomes import Outcomes
    from evaluation.statistics.resampling import intervals
    from evaluation.statistics.verdict import decide

    payload = payload or write_payload(folder / "payload")
    run = folder / "run"
    windows = all_windows()
    evaluator = Evaluator(payload, IndexConfig(kind="flat"), {"final": windows})
    article = windows[:, -1] // CHUNKS
    queries = RunQueries(windows, article, np.where(article % 3, 0.5, 0.95).astype(np.float32), article % 3 > 0)
    answers, rows = {}, []
    gate = {"rule": "r@5 >= 0.01", "metric": "r@5", "value": 0.2, "limit": 0.01, "passed": True}
    for place, name in enumerate(("mamba_s", "mamba_h", "amn")):
        checkpoint = str(save_variant(run, name, seed + place))
        predicted = Predictor().predict(checkpoint, payload, windows, latency_queries=5)
        answers[name] = evaluator.evaluate(name, "final", predicted["predictions"], latency_queries=50)
        write_training_log(run, name, 4)
        row = {"variant": name, "kind": "baseline" if name == "amn" else "variant", "status": "FINISHED", "reason": ""}
        extra = {key: predicted[key] for key in ("params", "predict_p95_ms", "sha256")}
        rows.append(row | extra | {"epochs": 4, "train_s": 10.0, "windows_seen": 4000, "gates": [gate]})
    for name, answer in evaluator.baselines("final", latency_queries=50).items():
        answers[name] = answer
        rows.append({"variant": name, "kind": "baseline", "status": "FINISHED", "reason": "", "params": 0})
    for row in rows:
        answer = answers[row["variant"]]
        save_arrays(run / "variants" / row["variant"], answer)
        row.update(
            answer["metrics"], ci=intervals(Outcomes.of(answer), queries.known, num_resamples=200) | answer["ci"]
        )
    (run / "variants" / "mamba_xl").mkdir()
    write_training_log(run, "mamba_xl", 4)
    why = "contain@50 >= 0.55 at epoch 4: got 0.10"
    rows.append({"variant": "mamba_xl", "kind": "variant", "status": "PRUNED", "reason": why, "epochs": 4})
    outcomes = {name: Outcomes.of(answer) for name, answer in answers.items()}
    decision = decide(rows, outcomes, queries.known, reference="amn", num_resamples=200)
    decision.apply(rows)
    ready = evaluator.ready()
    protocol = {"payload_path": payload, "n": ready["index"]["n"], "dim": DIM, "index": ready["index"]}
    results = {"protocol": protocol, "rows": rows, "best": decision.best, "verdict": decision.headline}
    save_results(run, results | {"pairs": [pair.to_dict() for pair in decision.pairs]})
    save_queries(run, queries)
    write_side_files(run, payload)
    return run


def write_side_files(run: Path, payload: str) -> None:
    write_windows(run, payload)
    (run / "config.yaml").write_text(
        f"""
seed: 7
data: {{source: payload, payload: {payload}, min_article_chunks: 7}}
index: {{kind: flat}}
gates:
  smoke:
    - {{epoch: 4, continue_if: [r@5 >= 0.01], prune_unless: [contain@50 >= 0.9 * baseline.context_mean]}}
    - {{epoch: 8, continue_if: [r@5 >= 0.99], prune_unless: []}}
  success_if: [r@5 >= 0.01]
"""
    )
    decision = {
        "time": "2026-01-01T00:00:00+00:00",
        "variant": "mamba_xl",
        "epoch": 4,
        "rule": "contain@50 >= 0.55",
        "metric": "contain@50",
        "value": 0.10,
        "limit": 0.55,
        "passed": False,
        "action": "prune",
        "reason": "contain@50 >= 0.55 at epoch 4: got 0.10",
    }
    (run / "decisions.jsonl").write_text(json.dumps(decision) + "\n")
    check = {"name": "unit_norm", "value": 1.0, "limit": "within 0.001", "passed": True, "hint": "", "detail": ""}
    (run / "preflight.json").write_text(json.dumps([check]))
    spans = {"mamba_s": {"start-up": 3.0, "train": 10.0, "smoke": 1.0}, "mamba_xl": {"train": 5.0}}
    (run / "timeline.json").write_text(json.dumps({"trials": spans, "phases": [{"name": "training", "seconds": 15.0}]}))


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
