"""Small makers of bad inputs: a token in a case's command line, such as `{half.npy}`, becomes a file of that kind.

`{KIND.EXT}` is a file of its own, `{run/FILE=KIND}` a copy of a whole run in which one file is of that kind, and
`{pay/FILE=KIND}` the same for a payload. KIND is a key of DAMAGES; `half` and `flip` begin with a good file.
"""

import gzip
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.foreign.parquet import write_parquet
from data.payload.store import open_payload, write_payload
from tests.evaluation.planted_run import make_run

TOKEN = re.compile(r"\{([^{}]+)\}")
EXPERIMENT = """name: bad
seed: 3
data: {source: payload, payload: pay}
variants: {amn: {d_model: 32}}
training: {epochs: 1, batch_size: 32}
smoke: {epochs: [1], queries: 20}
"""


def make_workspace(folder: Path) -> None:
    """Make good files of every kind; the makers below spoil copies of them."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((600, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    articles, chunks = np.repeat(np.arange(60, dtype=np.int32), 10), np.tile(np.arange(10, dtype=np.int32), 60)
    texts = [f"chunk {chunk} of article {article}" for article, chunk in zip(articles, chunks, strict=True)]
    write_payload(
        folder / "pay",
        vectors=vectors,
        article_index=articles,
        chunk_index=chunks,
        texts=texts,
        embedder="bad-16",
    )
    write_parquet(open_payload(folder / "pay"), folder / "good.parquet")
    np.save(folder / "good.npy", vectors)
    np.save(folder / "keys.npy", np.stack([articles, chunks], axis=1))
    np.savez(folder / "good.npz", context=vectors[:500].reshape(100, 5, 16), target=vectors[500:])
    shared: Any = ()
    for _ in range(60):
        shared = (shared, shared)
    np.save(folder / "shared.npy", np.array({1: shared}, dtype=object), allow_pickle=True)
    with zipfile.ZipFile(folder / "bare.npz", "w") as archive:  # as numpy names nothing
        archive.writestr("context", b"no array")
    line = {"article": "one", "paragraphs": ["A paragraph that is longer than forty characters, I am quite sure."] * 9}
    (folder / "good.jsonl").write_text(f"{json.dumps(line)}\n" * 20)
    (folder / "good.jsonl.gz").write_bytes(gzip.compress((folder / "good.jsonl").read_bytes()))
    (folder / "good.yaml").write_text(EXPERIMENT)
    make_run(folder / "made").rename(folder / "run")
    shutil.copy(folder / "run" / "results.json", folder / "good.json")
    shutil.copy(next((folder / "run" / "variants").rglob("best.pt")), folder / "good.pt")
    (folder / "good.faiss").write_bytes(b"IxFI" + bytes(60))
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("A paragraph that is longer than forty characters, I am quite sure.\n")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("years")
    (folder / "bad").mkdir()


def filled(arguments: str, folder: Path) -> list[str]:
    """Return a command line whose tokens are made, in the workspace `folder`."""
    return [TOKEN.sub(lambda match: str(_made(match[1], folder)), part) for part in arguments.split()]


def _made(token: str, folder: Path) -> Path:
    whole, _, kind = token.partition("=")
    if kind:
        base, _, inner = whole.partition("/")
        copy = Path("bad") / token.replace("/", "-")
        if not (folder / copy).exists():
            shutil.copytree(folder / base, folder / copy)
            _spoil(folder / copy / inner, kind, folder / base / inner)
        return copy
    kind, _, ending = token.partition(".")
    path = Path("bad") / token
    if not os.path.lexists(folder / path):
        _spoil(folder / path, kind, folder / f"good.{ending}")
    return path


def _spoil(path: Path, kind: str, good: Path) -> None:
    content = good.read_bytes() if good.is_file() else b"content"
    if path.is_file():
        path.unlink()
    if kind in SPECIAL:
        SPECIAL[kind](path)
    else:
        path.write_bytes(DAMAGES[kind](content))


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 20)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dir": Path.mkdir,
    "gone": lambda path: None,
    "loop": lambda path: path.symlink_to(path.name),
    "huge": _huge,
}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "flip": lambda content: content[: len(content) // 2] + b"\xff\xfe\x00\x01" * 4 + content[len(content) // 2 + 16 :],
    "zeros": lambda content: bytes(len(content)),
    "text": lambda _: b"Dear reader, this is a letter and nothing else.\n",
    "binary": lambda _: bytes(range(256)) * 8,
    "latin": lambda _: "name: café\n".encode("latin-1"),
    "control": lambda _: b"name: a\x07b\x00c\n",
    "number": lambda _: b"7\n",
    "string": lambda _: b'"word"\n',
    "list": lambda _: b"[1, 2]\n",
    "null": lambda _: b"null\n",
    "object": lambda _: b"{}\n",
    "foreign": lambda _: b'{"manifest_version": 3, "name": "extension"}\n',
    "deep": lambda _: b"[" * 50_000,
    "deepmap": lambda _: b'{"a":' * 50_000,
    "digits": lambda _: b'{"a": ' + b"9" * 10_000 + b"}\n",
    "surrogate": lambda _: b'{"protocol": {}, "rows": [{"variant": "\\ud800", "status": "FINISHED"}]}\n',
    "high": lambda _: b'{"protocol": {}, "rows": [{"variant": "a", "status": "FINISHED", "r@5": "high"}]}\n',
    "rowless": lambda _: b'{"protocol": {}, "rows": 3}\n',
    "nameless": lambda _: b'{"protocol": {}, "rows": [{"status": "FINISHED"}]}\n',
    "bomb": lambda _: BOMB.encode(),
    "self": lambda _: b"a: &a [*a]\n",
    "selfmap": lambda _: b"variants: &v {amn: *v}\n",
    "twice": lambda _: b"name: a\nname: b\n",
    "tag": lambda _: b"!!python/object/apply:os.system ['touch owned']\n",
    "tab": lambda _: b"name:\n\t- a\n",
    "brackets": lambda _: b"a: " + b"[" * 5_000,
    "badgz": lambda _: gzip.compress(b"x" * 5_000)[:-12] + b"\x00" * 12,
    "objects": lambda _: _saved(np.array([{"a": 1}], object)),
    "floats": lambda _: _saved(np.zeros(7)),
    "words": lambda _: _saved(np.array(["a", "b"])),
    "cube": lambda _: _saved(np.zeros((2, 2, 2), np.float32)),
    "nan": lambda _: _saved(np.full((600, 16), np.nan, np.float32)),
    "nought": lambda _: _saved(np.zeros((600, 16), np.float32)),
    "void": lambda _: _saved(np.zeros((0, 16), np.float32)),
}


def _saved(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()
