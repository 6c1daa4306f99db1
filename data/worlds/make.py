"""Small synthetic corpora whose next chunk is known: each with the best prediction that its rule allows.

| world       | next chunk                                                                  | what it takes        |
|-------------|-----------------------------------------------------------------------------|----------------------|
| rotation    | R x_last                                                                    | a line               |
| switch      | R1 x_last or R2 x_last, by the sign of a feature of the oldest chunk        | gating               |
| memory      | R x_oldest, 32 chunks back                                                  | carrying             |
| recall      | what followed the earlier occurrence of the last key, arXiv 2312.04927      | content addressing   |
| topic       | the article's direction                                                     | an average           |
| noise       | independent of everything                                                   | nothing to learn     |
| boilerplate | texts that many articles share, then a chunk that nobody can foresee        | memory, no more      |

To each next chunk noise is added. Letters: A articles, C chunks of each, Q queries, L context length, D dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.payload.store import Payload, write_payload
from data.seeding import derive_seed

Float64 = NDArray[np.float64]
Predict = Callable[[Float64], Float64]
"""From contexts (Q, L, D) to what comes next, (Q, D), less its noise; not normalised."""

DIM = 64
LENGTH = 40  # chunks of an article; of the world `memory`, whose line has 32 matrices to fit, 80
NUM_CHUNKS = {"switch": 40_000, "memory": 30_000, "recall": 40_000}  # of those whose rules take many windows
DEFAULT_CHUNKS = 20_000
NOISE = 1.2  # of a chunk that a rule made: its cosine with the rule is about 0.64
NUM_PAIRS = 8  # of keys and values in an article of the world `recall`
NUM_KEYS = 32  # of which an article has NUM_PAIRS; its values are its own
NUM_TEXTS, TEXT_CHUNKS = 40, 3  # of the world `boilerplate`


@dataclass(frozen=True, slots=True)
class World:
    """A world's chunks (A, C, D) of unit norm, and its oracle."""

    chunks: NDArray[np.float32]
    context_length: int
    predict: Predict

    def oracle(self, context: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the best prediction for contexts (Q, L, D), (Q, D) of unit norm."""
        return _unit(self.predict(context.astype(np.float64))).astype(np.float32)


def make_world(name: str, *, num_chunks: int | None = None, dim: int = DIM, seed: int = 0) -> World:
    """Make a world, of its own size by default; the same name, sizes and seed give the same one.

    Raises:
        UserError: there is no world of this name.
    """
    if name not in WORLDS:
        raise UserError(f"world: expected one of {', '.join(WORLDS)}, got {name!r}; choose one of these")
    num_chunks = num_chunks or NUM_CHUNKS.get(name, DEFAULT_CHUNKS)
    return WORLDS[name](num_chunks, dim, np.random.default_rng(derive_seed(seed, "world", name)))


def write_world(world: World, folder: Path, name: str) -> Payload:
    """Write a world's chunks as a payload."""
    num_articles, length, dim = world.chunks.shape
    return write_payload(
        folder,
        vectors=world.chunks.reshape(-1, dim),
        article_index=np.repeat(np.arange(num_articles, dtype=np.int32), length),
        chunk_index=np.tile(np.arange(length, dtype=np.int32), num_articles),
        texts=[
            f"{name}, article {article}, chunk {chunk}" for article in range(num_articles) for chunk in range(length)
        ],
        embedder=f"world {name}",
        source={"kind": "world", "world": name},
    )


def _rotation(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    turn = _random_rotation(dim, rng)
    return _by_rule(lambda context: context[:, -1] @ turn, 5, num_chunks, dim, rng)


def _switch(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    one, other, feature = _random_rotation(dim, rng), _random_rotation(dim, rng), rng.standard_normal(dim)

    def predict(context: Float64) -> Float64:
        first = context[:, 0] @ feature > 0.0
        return np.where(first[:, None], context[:, -1] @ one, context[:, -1] @ other)

    return _by_rule(predict, 5, num_chunks, dim, rng)


def _memory(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    turn = _random_rotation(dim, rng)
    return _by_rule(lambda context: context[:, 0] @ turn, 32, num_chunks, dim, rng, length=80)


def _recall(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    """Keys and values take turns, each key once in every NUM_PAIRS of them: a context of 32 has an earlier one.

    Keys are shared by all articles, so a key that comes next is nothing novel; an article's values are its own.
    """
    num_articles = num_chunks // LENGTH
    keys = rng.standard_normal((NUM_KEYS, dim))[rng.permuted(np.tile(np.arange(NUM_KEYS), (num_articles, 1)), axis=1)]
    values = rng.standard_normal((num_articles, NUM_PAIRS, dim))
    pairs = np.stack([keys[:, :NUM_PAIRS], values], axis=2) / np.sqrt(dim)
    rounds = np.tile(np.arange(NUM_PAIRS), (num_articles, -(-LENGTH // (2 * NUM_PAIRS)), 1))
    which = rng.permuted(rounds, axis=2).reshape(num_articles, -1)[:, : LENGTH // 2]
    chunks = pairs[np.arange(num_articles)[:, None], which].reshape(num_articles, LENGTH, dim)
    chunks = _unit(chunks + 0.3 * rng.standard_normal(chunks.shape) / np.sqrt(dim))
    return World(chunks.astype(np.float32), 32, _successor_of_the_most_alike)


def _successor_of_the_most_alike(context: Float64) -> Float64:
    """Return what followed the earlier chunk of the context that is most like its last one, (Q, D)."""
    alike = np.einsum("qld,qd->ql", context[:, :-1], context[:, -1])
    found: Float64 = context[np.arange(len(context)), alike.argmax(axis=1) + 1]
    return found


def _topic(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    topics = _unit(rng.standard_normal((num_chunks // LENGTH, 1, dim)))
    chunks = _unit(topics + 1.5 * rng.standard_normal((num_chunks // LENGTH, LENGTH, dim)) / np.sqrt(dim))
    return World(chunks.astype(np.float32), 5, lambda context: context.mean(axis=1))


def _noise(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    chunks = _unit(rng.standard_normal((num_chunks // LENGTH, LENGTH, dim)))
    return World(chunks.astype(np.float32), 5, lambda context: context[:, -1])


def _boilerplate(num_chunks: int, dim: int, rng: np.random.Generator) -> World:
    """Between two texts stands a chunk of the article's own, so that no window is in training as a whole."""
    num_articles, num_parts = num_chunks // LENGTH, LENGTH // (TEXT_CHUNKS + 1)
    texts = _unit(rng.standard_normal((NUM_TEXTS, TEXT_CHUNKS, dim)) + 0.5)
    own = _unit(rng.standard_normal((num_articles, num_parts, 1, dim)) + 0.5)
    parts = np.concatenate([own, texts[rng.integers(NUM_TEXTS, size=(num_articles, num_parts))]], axis=2)
    chunks = parts.reshape(num_articles, -1, dim).astype(np.float32)
    return World(chunks, 5, partial(_next_of_a_text, texts))


def _next_of_a_text(texts: Float64, context: Float64) -> Float64:
    """Return the chunk after the last one in its text, (Q, D); the mean of all where a text has ended or begins."""
    place = (context[:, -1] @ texts.reshape(-1, texts.shape[-1]).T).argmax(axis=1)
    text, chunk = np.divmod(place, TEXT_CHUNKS)
    goes_on = (np.einsum("qd,qd->q", context[:, -1], texts[text, chunk]) > 0.999) & (chunk + 1 < TEXT_CHUNKS)
    following = texts[text, np.minimum(chunk + 1, TEXT_CHUNKS - 1)]
    mean: Float64 = texts.mean(axis=(0, 1))
    return np.where(goes_on[:, None], following, mean)


WORLDS: dict[str, Callable[[int, int, np.random.Generator], World]] = {
    "rotation": _rotation,
    "switch": _switch,
    "memory": _memory,
    "recall": _recall,
    "topic": _topic,
    "noise": _noise,
    "boilerplate": _boilerplate,
}


def _by_rule(
    predict: Predict,
    context_length: int,
    num_chunks: int,
    dim: int,
    rng: np.random.Generator,
    *,
    length: int = LENGTH,
) -> World:
    """Articles that begin with L random chunks; each further one is the rule's plus noise of norm NOISE."""
    num_articles = num_chunks // length
    chunks = np.empty((num_articles, length, dim))
    chunks[:, :context_length] = _unit(rng.standard_normal((num_articles, context_length, dim)))
    for place in range(context_length, length):
        drawn = NOISE * rng.standard_normal((num_articles, dim)) / np.sqrt(dim)
        chunks[:, place] = _unit(_unit(predict(chunks[:, place - context_length : place])) + drawn)
    return World(chunks.astype(np.float32), context_length, predict)


def _random_rotation(dim: int, rng: np.random.Generator) -> Float64:
    rotation: Float64 = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return rotation


def _unit(rows: Float64) -> Float64:
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Float64 = rows / np.where(norm > 0.0, norm, 1.0)
    return unit
