"""A built index on disk, found again by the payload's hash and the configuration, memory-mapped by later runs.

<folder>/<key>.json     configuration, resolved parameters, what `auto` tried, the payload's sha256
<folder>/<key>.faiss    the index; a flat one is left out, since it is the payload's vectors again
"""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from data.errors import DamagedError, UserError
from data.io import read_json, replacing, write_json
from data.output import held, print_differs, print_of
from evaluation.config import IndexConfig
from evaluation.index.build import build_index
from evaluation.index.search import SearchIndex, build_kind

FORMAT = 2


def open_or_build(
    vectors: npt.NDArray[np.floating], config: IndexConfig, payload_sha256: str, folder: str | Path
) -> tuple[SearchIndex, bool]:
    """The index of this payload and configuration, and whether it was built now rather than opened.

    A damaged one is built again. Where another process is building the same one, it is built here too and not kept.
    """
    stem = Path(folder) / key(config, payload_sha256)
    if stem.with_suffix(".json").is_file():
        with contextlib.suppress(UserError, LookupError, TypeError):
            return _open(vectors, stem), False
    index = build_index(vectors, config)
    with contextlib.suppress(UserError), held(stem, "index"):
        _save(index, stem, payload_sha256)
    return index, True


def key(config: IndexConfig, payload_sha256: str) -> str:
    """16 hex digits from the format, the whole configuration and the payload's hash."""
    identity = json.dumps([FORMAT, asdict(config), payload_sha256], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _save(index: SearchIndex, stem: Path, payload_sha256: str) -> None:
    """The index first and its description last: a description without an index never appears."""
    if index.config.kind != "flat":
        with replacing(stem.with_suffix(".faiss")) as file:
            faiss.write_index(index.faiss_index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    described = {
        "payload_sha256": payload_sha256,
        "config": asdict(index.config),
        "notes": index.notes,
        "file": print_of(stem.with_suffix(".faiss")) if index.config.kind != "flat" else None,
    }
    write_json(stem.with_suffix(".json"), described)


def _open(vectors: npt.NDArray[np.floating], stem: Path) -> SearchIndex:
    started = time.perf_counter()
    described = read_json(stem.with_suffix(".json"))
    config = IndexConfig(**described["config"])
    notes = {**described["notes"], "opened_from": stem.name}
    if config.kind == "flat":
        flat = build_kind(np.ascontiguousarray(vectors, dtype=np.float32), config).faiss_index
        return SearchIndex(flat, config, time.perf_counter() - started, notes)
    path = stem.with_suffix(".faiss")
    if differs := print_differs(path, described["file"]):
        raise DamagedError(f"{path}: expected the index as it was saved, got {differs}")
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise DamagedError(f"{path}: expected a saved index, got a file that FAISS cannot read") from error
    if (index.ntotal, index.d) != vectors.shape:
        raise DamagedError(f"{path}: expected an index of {vectors.shape}, got {(index.ntotal, index.d)}")
    return SearchIndex(index, config, time.perf_counter() - started, notes)  # the file holds nprobe and k_factor, too
