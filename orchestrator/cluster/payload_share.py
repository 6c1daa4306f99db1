"""The payload's vectors on a worker's node: by path where the node sees it, else from Ray's object store.

The store keeps one copy a node, and every worker there maps that copy. Nothing is put into it until a worker asks. So a
run on one node, or with storage that all nodes see, copies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.payload.keys import Int32
from data.payload.store import Payload, Vectors, open_payload


@dataclass(frozen=True, eq=False, slots=True)
class TrainingArrays:
    """What training reads of a payload, read-only."""

    vectors: Vectors
    """(N, D)"""
    article_index: Int32
    """(N,)"""


def open_arrays(path: Path, sha256: str, evaluator: Any) -> TrainingArrays:
    """Open the payload with this content at `path`, or have the evaluator, which has it open, hand it over.

    Args:
        path: The payload's folder as the driver sees it.
        sha256: Of its content; another payload that lies at this path on this node is not taken for it.
        evaluator: Handle of the evaluation actor.
    """
    payload = _open(path)
    if payload is not None and payload.provenance.sha256 == sha256:
        return TrainingArrays(payload.vectors, payload.article_index)
    import ray

    reference = ray.get(evaluator.share_payload.remote())
    return TrainingArrays(*ray.get(reference))


def _open(path: Path) -> Payload | None:
    try:
        return open_payload(path)
    except UserError:  # this node does not see it, or has only a part of it
        return None
