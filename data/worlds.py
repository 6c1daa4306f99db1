"""Small corpora whose best prediction is known: what a model, and the whole pipeline, is tested against.

    python -m data.worlds rotation --out artifacts/worlds/rotation

| world       | the next chunk is                                                 | what it asks for           |
|-------------|-------------------------------------------------------------------|----------------------------|
| rotation    | the last one turned by a fixed rotation                           | a line                     |
| switch      | the last one turned by one of two, by a feature of the first      | a gate                     |
| memory      | the first of 32 turned by a fixed rotation                        | carrying                   |
| recall      | what followed the last chunk's earlier occurrence among 32        | looking up by content      |
| topic       | the article's direction                                           | averaging                  |
| noise       | independent of all                                                | nothing                    |
| boilerplate | in copied articles, what follows in the other copies; else noise  | memory, and no prediction  |

All but noise add noise. A payload is made as from any corpus, and beside it `oracle.npy` (N, D): for each row what the
world itself would predict for it from the chunks before, of norm 1. The baseline `oracle` reads that file, so that a
model's figures can be held against the best ones possible. Chunks of context: `CONTEXT_LENGTH`.

Letters: N rows, D dimension, n chunks of an article, L chunks of context. Recall: associative recall as in arXiv
2312.04927.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.io import replacing
from data.payload.store import Payload, write_payload
from data.seeding import derive_seed

Floats = NDArray[np.float64]
Generator = Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]
"""From a source of chance, n and L to an article's chunks (n, D) and the oracle's predictions of them (n, D)."""

DIM = 64
ORACLE_FILE = "oracle.npy"  # inside a payload folder
SIZES = range(40, 81)
"""Chunks of an article."""


def _unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def _random(rng: np.random.Generator, num: int) -> Floats:
    return _unit(rng.standard_normal((num, DIM)))


def _turned(rng: np.random.Generator, direction: Floats, cosine: float) -> Floats:
    """Return a unit vector at about this cosine from a unit direction (D,)."""
    noise = _random(rng, 1)[0]
    return _unit(cosine * direction + (1.0 - cosine**2) ** 0.5 * noise)


def _rotations(num: int) -> list[Floats]:
    """Return fixed rotations of the space; the same in every article and seed, since a model has to learn them."""
    rng = np.random.default_rng(derive_seed("worlds", "rotations"))
    return [np.linalg.qr(rng.standard_normal((DIM, DIM)))[0] for _ in range(num)]


FIRST, SECOND = _rotations(2)


def rotation(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """x[t+1] = R x[t] and noise."""
    return _driven(rng, size, lambda chunks, step: FIRST @ chunks[step - 1])


def switch(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """x[t+1] = R1 x[t] or R2 x[t], by the sign of the first component of x[t-L+1], and noise."""

    def predict(chunks: Floats, step: int) -> Floats:
        turn = FIRST if chunks[max(0, step - length), 0] > 0 else SECOND
        return np.asarray(turn @ chunks[step - 1])

    return _driven(rng, size, predict)


def memory(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """x[t+1] = R x[t-L+1] and noise; the first L chunks are random."""

    def predict(chunks: Floats, step: int) -> Floats:
        return np.asarray(FIRST @ chunks[step - length]) if step >= length else _random(rng, 1)[0]

    return _driven(rng, size, predict)


def _driven(
    rng: np.random.Generator, size: int, predict: Callable[[Floats, int], Floats], cosine: float = 0.8
) -> tuple[Floats, Floats]:
    """Return an article in which every chunk is the prediction from those before, and noise."""
    chunks, oracle = np.zeros((size, DIM)), np.zeros((size, DIM))
    chunks[0] = oracle[0] = _random(rng, 1)[0]
    for step in range(1, size):
        oracle[step] = predict(chunks, step)
        chunks[step] = _turned(rng, oracle[step], cosine)
    return chunks, oracle


KEYS = _random(np.random.default_rng(derive_seed("worlds", "keys")), 64)
KEYS_OF_ARTICLE = 6


def recall(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """Keys and values in turns; a key that was there among the last L chunks is followed by the same value again.

    Keys are the same in all articles, values are an article's own. The oracle of a key is any key, of a new value any
    direction: neither can be known.
    """
    keys = KEYS[rng.choice(len(KEYS), KEYS_OF_ARTICLE, replace=False)]
    values = _random(rng, KEYS_OF_ARTICLE)
    chunks, oracle = np.zeros((size, DIM)), np.zeros((size, DIM))
    last_seen: dict[int, int] = {}
    key = 0
    for step in range(size):
        if step % 2 == 0:
            key = int(rng.integers(KEYS_OF_ARTICLE))
            oracle[step], chunks[step] = _random(rng, 1)[0], _turned(rng, keys[key], 0.98)
        else:
            known = step - last_seen.get(key, -length - 1) <= length
            chunks[step] = _turned(rng, values[key], 0.9)
            oracle[step] = chunks[last_seen[key]] if known else _random(rng, 1)[0]
            last_seen[key] = step
    return chunks, oracle


def topic(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """The article's direction and noise; the mean of the context is all that can be known."""
    direction = _random(rng, 1)[0]
    chunks = np.stack([_turned(rng, direction, 0.6) for _ in range(size)])
    oracle = chunks.copy()
    for step in range(1, size):
        oracle[step] = _unit(chunks[max(0, step - length) : step].mean(axis=0))
    return chunks, oracle


def noise(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """Independent chunks: nothing can be known."""
    return _random(rng, size), _random(rng, size)


NUM_TEMPLATES = 40
COPIED_SHARE = 0.7
_TEMPLATES = _random(np.random.default_rng(derive_seed("worlds", "templates")), NUM_TEMPLATES * max(SIZES))


def boilerplate(rng: np.random.Generator, size: int, length: int) -> tuple[Floats, Floats]:
    """Most articles are a copy of one of a few templates, the others noise; what is copied is memory."""
    if rng.random() >= COPIED_SHARE:
        return noise(rng, size, length)
    start = int(rng.integers(NUM_TEMPLATES)) * max(SIZES)
    copied = _TEMPLATES[start : start + size]
    return copied, copied


WORLDS: dict[str, Generator] = {
    function.__name__: function for function in (rotation, switch, memory, recall, topic, noise, boilerplate)
}
CONTEXT_LENGTH = dict.fromkeys(WORLDS, 5) | {"memory": 32, "recall": 32}


def make_world(name: str, out: Path, *, num_articles: int = 500, seed: int = 0) -> Payload:
    """Write a world as a payload folder with its oracle.

    Raises:
        UserError: no world has this name, or it would have no article.
    """
    if name not in WORLDS:
        raise UserError(f"world: expected one of {', '.join(WORLDS)}, got {name!r}; choose one of them")
    if num_articles < 1:
        raise UserError(f"--articles: expected at least 1, got {num_articles}; the default is 500")
    rng = np.random.default_rng(derive_seed(seed, "world", name))
    sizes = rng.integers(SIZES.start, SIZES.stop, num_articles)
    articles = [WORLDS[name](rng, int(size), CONTEXT_LENGTH[name]) for size in sizes]
    payload = write_payload(
        out,
        vectors=np.concatenate([chunks for chunks, _ in articles]).astype(np.float32),
        article_index=np.repeat(np.arange(num_articles, dtype=np.int32), sizes),
        chunk_index=np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        embedder=f"world {name}",
        source={"kind": "world", "world": name, "seed": seed},
    )
    with replacing(out / ORACLE_FILE) as file:
        np.save(file, np.concatenate([oracle for _, oracle in articles]).astype(np.float32))
    return payload


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m data.worlds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help=f"one of {', '.join(WORLDS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the payload to make")
    parser.add_argument("--articles", type=int, default=500, help="of 40 to 80 chunks each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        payload = make_world(options.name, options.out, num_articles=options.articles, seed=options.seed)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"payload   {payload.num_rows:,} chunks of {payload.num_articles:,} articles, dimension {payload.dim}\n"
        f"use it    source: payload, payload: {options.out}, context_length: {CONTEXT_LENGTH[options.name]}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
