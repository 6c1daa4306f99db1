"""Text to vectors with WordLlama, whose weights and tokenizer come in its wheel: no download, no torch."""

import importlib.metadata
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDLLAMA_DIM = 256
_BATCH_TEXTS = 1024


def wordllama_id() -> str:
    """Return the embedder's name and version for provenance, without importing it."""
    return f"wordllama {importlib.metadata.version('wordllama')} l2_supercat_{WORDLLAMA_DIM}"


def embed_wordllama(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts, (N,) strings -> (N, 256) float32 rows of L2 norm 1: the normalised mean of the token vectors.

    The result of a text does not depend on its neighbours in the batch.

    Raises:
        ValueError: a text has no token, so its vector has no direction.
    """
    model = _load_wordllama()
    table = model.embedding  # (V, 256) float32
    model.tokenizer.no_padding()
    vectors = np.empty((len(texts), table.shape[1]), np.float32)
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = list(texts[start : start + _BATCH_TEXTS])
        encoded = model.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        for offset, encoding in enumerate(encoded):
            ids = encoding.ids
            if not ids:
                raise ValueError(
                    f"texts[{start + offset}]: expected at least one token, got {batch[offset]!r}; leave it out"
                )
            vectors[start + offset] = table[ids].mean(axis=0)
    return normalise(vectors)


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each row by its L2 norm, computed in float64 once; the only place where vectors are normalised."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    unit: NDArray[np.float32] = (vectors / norms[:, None]).astype(np.float32)
    return unit


def _load_wordllama() -> Any:
    """Load WordLlama from its own package folder.

    Version 0.4.0.post1 looks for its tokenizer in a folder `tokenizer` while the wheel has `tokenizers`; as `cache_dir`
    the package folder is searched under the right name.
    """
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ValueError("wordllama: expected it to be installed, got no such package; run pip install -e .")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    from wordllama import WordLlama

    root.handlers[:], root.level = handlers, level  # its import installs a handler that prints everyone's messages
    return WordLlama.load(cache_dir=Path(spec.origin).parent, disable_download=True)
