"""best/model_card.md: what the winner is, what it was trained on, how good it is and how to use it.

The ten lines of code in it are run by a test in a clean process and print the R@5 of the table again.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from data.io import read_json, read_json_lines, write_text
from evaluation.measures.metrics import DECISION_METRIC, NOVEL, metric
from evaluation.queries import QUERIES_FILE
from evaluation.report.columns import decimal, interval, number, per_cent
from evaluation.report.render import markdown_text
from evaluation.results import Row, load_config
from models.spec.imported import is_import_path

CARD_FILE = "model_card.md"
SHOWN = (
    *(
        DECISION_METRIC,
        NOVEL + "contain@50",
        NOVEL + "mrr@10",
        "r@1",
        "r@5",
        "r@10",
        "contain@20",
        "contain@50",
        "eff@5",
    ),
    *("mrr@10", "cosine", "p95_ms", "predict_p95_ms", "answer_p95_ms"),
)

USAGE = """import numpy as np
import torch
from data.payload.store import open_payload
from models.training.checkpoint import load_model

vectors = np.array(open_payload("{payload}").vectors, dtype=np.float32)  # (N, {dim}), norm 1
kept = np.load("{folder}/queries.npz")
windows, novel = kept["windows"], kept["novel"]  # (Q, L + 1): rows of the context and of the target; (Q,) bool
with torch.inference_mode():
    pred = load_model("{folder}/best.pt"{trusted}).model(torch.from_numpy(vectors[windows[:, :-1]]))[:, -1].numpy()
found = [np.argsort(-(vectors @ one), kind="stable")[:50] for one in pred]  # 50 nearest rows of each query
hits = np.array([(vectors[rows] == vectors[row]).all(axis=1) for rows, row in zip(found, windows[:, -1])])  # (Q, 50)
rank = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)
print({{f"R@{{k}}": (rank <= k).mean() for k in (1, 5, 10, 20, 50)}}, "Eff@5", (rank <= 5).sum() / (rank <= 50).sum())
print("MRR@10", np.where(rank <= 10, 1 / rank, 0).mean(), "novel R@5", (rank[novel] <= 5).mean())"""


def write_model_card(folder: str | Path, run: str | Path, results: Mapping[str, Any], payload: str | Path) -> Path:
    """Write model_card.md and the final queries into the folder that holds the winner's best.pt; return its path.

    Args:
        folder: `best/` of the run, or the folder that becomes it.
        run: the run folder, for the final queries and the winner's configuration.
        results: content of results.json, with a best variant.
        payload: the searched payload's folder, named in the code.
    """
    folder, run = Path(folder), Path(run)
    assert results.get("best"), "a run without survivor has no best"
    if (run / QUERIES_FILE).is_file():
        shutil.copy2(run / QUERIES_FILE, folder / QUERIES_FILE)
    config = (load_config(run).get("variants") or {}).get(results["best"]) or {}
    path = folder / CARD_FILE
    best = next(row for row in results["rows"] if row["variant"] == results["best"])
    results = {**results, "rows": [_of_weights(best, run)]}
    # The code names best/, where the folder will be, even while it is still being made beside it.
    write_text(path, model_card(results, config, run / "best", payload))
    return path


def _of_weights(row: Row, run: Path) -> Row:
    """The row with the figures of its own weights: where it is a mean over seeds, those of the one in best.pt."""
    of_trial = next((one for one in row.get("seeds") or () if one["trial"] == row["trial"]), None)
    if of_trial is None:
        return row
    final = read_json(run / "variants" / row["trial"] / "final.json")
    windows = read_json_lines(run / "variants" / row["trial"] / "metrics.jsonl", ended=True)[-1]["windows_seen"]
    return {**row, **final["metrics"], "ci": final["ci"], "seed": of_trial["seed"], "windows_seen": windows}


def model_card(results: Mapping[str, Any], config: Mapping[str, Any], folder: str | Path, payload: str | Path) -> str:
    """The card's Markdown."""
    row = next(row for row in results["rows"] if row["variant"] == results["best"])
    protocol = results["protocol"]
    trusted = f', trusted=["{row["model"]}"]' if is_import_path(str(row["model"])) else ""
    usage = USAGE.format(payload=payload, folder=folder, dim=protocol["D"], trusted=trusted)
    reranked = " The table's figures are reranked, these are not." if protocol.get("reranked") else ""
    sizes = ", ".join(f"{key} {value}" for key, value in config.items() if isinstance(value, int | float | str))
    parts = [
        f"# {markdown_text(row['variant'])}",
        "A next-vector model: it maps the vectors of consecutive chunks of a text, oldest first, to a prediction of "
        "the next chunk's vector, of norm 1.",
        f"Kind {row['model']}, {number(row, 'params') or 0:,.0f} parameters{': ' if sizes else ''}{sizes}.",
        "## Trained on",
        _trained_on(row, protocol),
        "## How good it is",
        _metrics(row, protocol),
        f"Verdict: {row['verdict']}. {markdown_text(row.get('verdict_why') or '')}".strip(),
        "## How to use it",
        "From the project's root; prints the table's retrieval figures again, Contain@k = R@k (by a full scan: an "
        f"approximate index may differ in the third digit).{reranked}\n\n```python\n{usage}\n```",
        "## Limits",
        "It predicts vectors of the one embedding space it was trained in: queries and corpus must come from the same "
        "embedder, normalised once. It has seen one corpus; on another kind of text measure it first, with "
        "`python -m evaluation.checkpoint`.",
    ]
    return "\n\n".join(parts) + "\n"


def _trained_on(row: Row, protocol: Mapping[str, Any]) -> str:
    facts = {
        "corpus": f"{protocol['N']:,} chunks, dimension {protocol['D']}",
        "embedder": protocol.get("embedder"),
        "data sha256": protocol.get("data_sha256"),
        "configuration sha256": protocol.get("config_sha256"),
        "commit": protocol.get("commit"),
        "windows seen": f"{number(row, 'windows_seen') or 0:,.0f} in {row.get('epochs')} epochs",
        "epoch of these weights": row.get("best_epoch"),
        "share of the layers' output in a prediction": row.get("val_share"),
        "checkpoint sha256": row.get("checkpoint_sha256"),
        "seed": row.get("seed", protocol.get("seed")),
    }
    return "\n".join(
        f"- {name}: {markdown_text(str(value))}" for name, value in facts.items() if value not in (None, "")
    )


def _metrics(row: Row, protocol: Mapping[str, Any]) -> str:
    cells = []
    for name in SHOWN:
        if number(row, name) is None:
            continue
        known = metric(name)
        share = known.unit == "share"
        value = per_cent(name)(row) + " %" if share else decimal(name, 3)(row)
        scale, places = (100, 1) if share else (1, 3)
        bounds = [f"{scale * end:.{places}f}" for end in interval(row, name) or ()]
        cells.append([name, value, " to ".join(bounds), known.description])
    table = tabulate(cells, ["metric", "value", "95 % interval", "meaning"], tablefmt="pipe", disable_numparse=True)
    num_novel = protocol.get("n_novel")
    novel = "" if num_novel is None else f", {num_novel:,} of them novel"
    return f"On {row.get('n_queries')} held-out queries{novel}:\n\n{table}"
