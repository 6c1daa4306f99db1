"""best/model_card.md: what the winner is, what it was trained on, how good it is and how to use it.

The ten lines of code in it are run by a test in a clean process and print the R@5 of the table again.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from evaluation.measures.metrics import METRICS
from evaluation.report.columns import decimal, number, per_cent
from evaluation.results import Row

CARD_FILE = "model_card.md"
QUERIES_FILE = "windows.npy"
SHOWN = ("r@1", "r@5", "r@10", "contain@20", "contain@50", "eff@5", "mrr@10", "cosine", "p95_ms", "predict_p95_ms")

USAGE = """import numpy as np
import torch
from data.payload.store import open_payload
from models.training.checkpoint import load_model

vectors = np.array(open_payload("{payload}").vectors, dtype=np.float32)  # (N, {dim}), norm 1
windows = np.load("{folder}/windows.npy")  # (Q, L + 1): rows of the context and of the target
with torch.inference_mode():
    predictions = load_model("{folder}/best.pt").model(torch.from_numpy(vectors[windows[:, :-1]]))[:, -1].numpy()
found = [np.argsort(-(vectors @ one), kind="stable")[:50] for one in predictions]  # 50 nearest rows of each query
hits = np.array([(vectors[rows] == vectors[row]).all(axis=1) for rows, row in zip(found, windows[:, -1])])  # (Q, 50)
rank = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)
print({{f"R@{{k}}": (rank <= k).mean() for k in (1, 5, 10, 20, 50)}}, "Eff@5", (rank <= 5).sum() / (rank <= 50).sum())
cosine = (predictions * vectors[windows[:, -1]]).sum(axis=1).mean()
print("MRR@10", np.where(rank <= 10, 1 / rank, 0).mean(), "cosine", cosine)"""


def write_model_card(folder: str | Path, run: str | Path, results: Mapping[str, Any], payload: str | Path) -> Path:
    """Write model_card.md and the final queries into the folder that holds the winner's best.pt; return its path.

    Args:
        folder: `best/` of the run, or the folder that becomes it.
        run: the run folder, for the winner's queries and configuration.
        results: content of results.json, with a best variant.
        payload: the searched payload's folder, named in the code.
    """
    folder, run = Path(folder), Path(run)
    assert results.get("best"), "a run without survivor has no best"
    queries = run / "variants" / str(results["best"]) / QUERIES_FILE
    if queries.is_file():
        shutil.copy2(queries, folder / QUERIES_FILE)
    path = folder / CARD_FILE
    # The code names best/, where the folder will be, even while it is still being made beside it.
    path.write_text(
        model_card(results, _variant_config(run, str(results["best"])), run / "best", payload), encoding="utf-8"
    )
    return path


def model_card(results: Mapping[str, Any], config: Mapping[str, Any], folder: str | Path, payload: str | Path) -> str:
    """The card's Markdown."""
    row = next(row for row in results["rows"] if row["variant"] == results["best"])
    protocol = results["protocol"]
    dim = protocol.get("D") or protocol.get("dim") or "D"
    usage = USAGE.format(payload=payload, folder=folder, dim=dim)
    parts = [
        f"# {row['variant']}",
        _what(row, config),
        "## Trained on",
        _trained_on(row, protocol),
        "## How good it is",
        _metrics(row),
        _verdict(row),
        "## How to use it",
        f"From the project's root; prints the table's retrieval figures again, Contain@k = R@k (by a full scan: an "
        f"approximate index may differ in the third digit).\n\n```python\n{usage}\n```",
        "## Limits",
        "It predicts vectors of the one embedding space it was trained in: queries and corpus must come from the same "
        "embedder, normalised once. It has seen one corpus; on another kind of text measure it first, with "
        "`python -m evaluation.checkpoint`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(row: Row, config: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{key} {value}" for key, value in config.items() if isinstance(value, int | float | str))
    params = f"{number(row, 'params') or 0:,.0f} parameters"
    return (
        "A next-vector model: it maps the vectors of consecutive chunks of a text, oldest first, to a prediction of "
        f"the next chunk's vector, of norm 1.\n\nKind {row.get('model') or row['variant']}, {params}"
        + (f": {sizes}." if sizes else ".")
    )


def _trained_on(row: Row, protocol: Mapping[str, Any]) -> str:
    num_rows, dim = protocol.get("N") or protocol.get("n"), protocol.get("D") or protocol.get("dim")
    facts = {
        "corpus": f"{num_rows:,} chunks, dimension {dim}",
        "embedder": protocol.get("embedder"),
        "data sha256": protocol.get("data_sha256"),
        "configuration sha256": protocol.get("config_sha256"),
        "commit": protocol.get("commit"),
        "windows seen": f"{number(row, 'windows_seen') or 0:,.0f} in {row.get('epochs')} epochs",
        "epoch of these weights": row.get("best_epoch"),
        "checkpoint sha256": row.get("checkpoint_sha256") or row.get("sha256"),
        "seed": protocol.get("seed"),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value not in (None, ""))


def _metrics(row: Row) -> str:
    cells = []
    for name in SHOWN:
        known = METRICS[name]
        share = known.unit == "share"
        value = per_cent(name)(row) + " %" if share else decimal(name, 3)(row)
        low, high = (row.get("ci") or {}).get(name) or (None, None)
        scale, places = (100, 1) if share else (1, 3)
        interval = "" if low is None or high is None else f"{scale * low:.{places}f} to {scale * high:.{places}f}"
        cells.append([name, value, interval, known.description])
    table = tabulate(cells, ["metric", "value", "95 % interval", "meaning"], tablefmt="pipe", disable_numparse=True)
    return f"On {row.get('n_queries')} held-out queries:\n\n{table}"


def _verdict(row: Row) -> str:
    return f"Verdict: {row['verdict']}. {row.get('verdict_why') or ''}".strip() if row.get("verdict") else ""


def _variant_config(run: Path, variant: str) -> dict[str, Any]:
    """The winner's section of the run's config.yaml, empty without one."""
    path = run / "config.yaml"
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return dict((content.get("variants") or {}).get(variant) or {})
