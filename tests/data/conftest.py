"""Small payloads with known numbers."""

from pathlib import Path

import numpy as np
import pytest

from data.payload.store import Payload, write_payload
from tests.data.helpers import MakePayload, unit_rows


@pytest.fixture
def make_payload(tmp_path: Path) -> MakePayload:
    """Write a payload of articles with the given numbers of chunks."""

    def make(sizes: list[int], dim: int = 16, name: str = "payload", seed: int = 0, **changes: object) -> Payload:
        num = sum(sizes)
        arguments = {
            "vectors": unit_rows(num, dim, seed),
            "article_index": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            "chunk_index": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
            "texts": [f"text {row}" for row in range(num)],
            "titles": {article: f"title {article}" for article in range(len(sizes))},
            "embedder": "random",
            **changes,
        }
        return write_payload(tmp_path / name, **arguments)

    return make
