"""From a configuration to a payload and its splits: built once, then opened from the cache."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.config import DataConfig
from data.corpus import embedders, repeats
from data.corpus.articles import corpus_sha256, texts_of, write_articles
from data.corpus.docstrings import RULE_VERSION, docstring_articles, package_versions
from data.errors import DamagedError, MissingFileError, UserError
from data.foreign.assemble import SequenceFiles, build
from data.foreign.formats import import_payload
from data.output import held
from data.payload.duplicates import duplicate_ids
from data.payload.store import Payload, Vectors, open_payload
from data.windows.table import (
    WINDOWS_FOLDER,
    Splits,
    build_windows,
    drop_known,
    load_window_provenance,
    load_windows,
    split_by_article,
    take_train_share,
)

Tell = Callable[[str], object]


def _tell_nobody(_: str) -> None: ...


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What an experiment trains on and searches in."""

    payload: Payload
    splits: Splits


def prepare_data(
    config: DataConfig, cache_dir: Path, *, seed: int, verify: bool = False, tell: Tell = _tell_nobody
) -> PreparedData:
    """Prepare the payload and its windows; cutting the windows of 27,000 chunks takes 10 ms, so that is not cached.

    Args:
        config: The data section.
        cache_dir: Where payloads that are made are kept.
        seed: Cuts the splits.
        verify: Read all of the payload's files and compare their hashes; else only sizes and samples of them.
        tell: Takes a line before something that lasts.
    """
    payload = prepare_payload(config, cache_dir, verify=verify, tell=tell)
    return PreparedData(payload, prepare_splits(payload, config, seed=seed))


def prepare_payload(config: DataConfig, cache_dir: Path, *, verify: bool = False, tell: Tell = _tell_nobody) -> Payload:
    """Open the payload of a configuration, building it the first time.

    A cache folder's name is a hash of what it is built from: the rule, the packages' versions and the embedder, or the
    files' paths, sizes and times. A folder appears only when it is complete, so a build that was interrupted leaves
    nothing behind that could be taken for a payload.
    """
    if config.source == "payload":
        check_files(config)
        payload = _given_payload(config, cache_dir, verify=verify)
        return _without_repeats(payload, cache_dir, verify=verify) if config.drops_repeats else payload
    recipe = docstring_recipe(config)
    folder = cache_dir / recipe_hash(recipe)

    def make() -> Payload:
        tell(f"corpus    made once of the documentation of {', '.join(recipe['packages'])}: {folder} ...")
        return _build_docstring_payload(config, recipe, folder)

    return _cached(folder, make, verify=verify)


def _cached(folder: Path, make: Callable[[], Payload], *, verify: bool) -> Payload:
    """Open a cached payload; make it where there is none yet, or where ours is damaged. One process at a time makes it.

    Raises:
        UserError: another process is making it; the line says which.
    """
    if folder.is_dir():
        try:
            return open_payload(folder, verify=verify)
        except (DamagedError, MissingFileError) as error:
            sys.stderr.write(f"{str(error).rpartition(';')[0]}; damaged, built again\n")
    with held(folder, "cache entry"):
        return make()


def prepare_splits(payload: Payload, config: DataConfig, *, seed: int) -> Splits:
    """Return the train, validation and test windows: as the sequence files say where there were some, else cut by rule.

    Windows that training holds, chunk by chunk, are no queries; `Splits.dropped` counts them.

    Raises:
        UserError: no article is long enough, the files have another context length than the configuration, or training
            holds all windows of a split.
    """
    folder = payload.path / WINDOWS_FOLDER
    if (folder / "windows.json").is_file() and (provenance := load_window_provenance(folder)).origin == "files":
        if provenance.context_length != config.context_length:
            raise UserError(
                f"context_length: expected {provenance.context_length} as in {folder}, got {config.context_length}; "
                "the sequence files decide it"
            )
        splits = load_windows(folder, payload_sha256=payload.provenance.sha256)
        splits = drop_known(splits, duplicate_ids(payload.vectors))
        return take_train_share(splits, config.train_share, seed=seed)
    table = build_windows(payload.article_index, payload.chunk_index, config.context_length, config.min_article_chunks)
    if not len(table):
        raise UserError(
            f"{payload.path}: expected articles of {config.min_article_chunks} chunks or more, got none among "
            f"{payload.num_articles} articles; lower min_article_chunks or use a larger corpus"
        )
    splits = split_by_article(table, config.val_share, config.test_share, seed=seed)
    splits = drop_known(splits, duplicate_ids(payload.vectors))
    return take_train_share(splits, config.train_share, seed=seed)


def check_files(config: DataConfig, others: Mapping[str, str] | None = None) -> None:
    """Check that every file the configuration names is there.

    Args:
        config: The data section.
        others: Key and path of files that other sections name.

    Raises:
        MissingFileError: a file of the data section is missing; names all that are missing, in one line.
    """
    if all(Path(path).exists() for path in config.files().values()):
        return
    named = {**config.files(), **(others or {})}
    missing = [f"{name}: {path}" for name, path in named.items() if not Path(path).exists()]
    raise MissingFileError(
        f"data: expected files, got none at {', '.join(missing)}; fix the paths, or see data/README.md"
    )


def _given_payload(config: DataConfig, cache_dir: Path, *, verify: bool) -> Payload:
    assert config.payload is not None, "DataConfig refuses source: payload without a payload"
    source = Path(config.payload)
    if (source / "payload.json").is_file() and config.train is None:
        return open_payload(source, verify=verify)
    folder = cache_dir / recipe_hash(_file_recipe(config))
    if config.train is None or config.val is None or config.eval is None:
        return _cached(folder, lambda: import_payload(source, folder, embedder=config.embedder), verify=verify)
    files = SequenceFiles(train=Path(config.train), val=Path(config.val), test=Path(config.eval))
    return _cached(
        folder,
        lambda: build(source, folder, embedder=config.embedder, files=files, realign=config.realign).payload,
        verify=verify,
    )


def _without_repeats(payload: Payload, cache_dir: Path, *, verify: bool) -> Payload:
    """Return the payload itself where repeats were dropped before, else one without them, cached."""
    if "repeats" in payload.provenance.source:
        return payload
    windows = payload.path / WINDOWS_FOLDER
    if (windows / "windows.json").is_file() and load_window_provenance(windows).origin == "files":
        raise UserError(f"repeats: expected keep with the windows in {windows}, got drop; they are fixed: leave it out")
    made = (payload.provenance.sha256, payload.provenance.created_at)
    folder = cache_dir / recipe_hash({"kind": "repeats", "rule": repeats.RULE_VERSION, "payload": made})
    return _cached(folder, lambda: repeats.payload_without_repeats(payload, folder), verify=verify)


def _file_recipe(config: DataConfig) -> dict[str, Any]:
    """Return what a payload made from files depends on; times stand for contents, which may be gigabytes."""
    files = {}
    for name, path in config.files().items():
        entries = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
        files[name] = [(str(entry.resolve()), entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries]
    return {"kind": "files", "files": files, "embedder": config.embedder, "realign": config.realign}


def docstring_recipe(config: DataConfig) -> dict[str, Any]:
    """Return all that the docstring payload depends on; no source is read and no package imported for it."""
    return {
        "kind": "docstrings",
        "rule": RULE_VERSION,
        "packages": package_versions(config.packages),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",  # decides which sources parse
        "min_chars": config.min_chars,
        "max_chars": config.max_chars,
        "min_article_chunks": config.min_article_chunks,
        "repeats": repeats.RULE_VERSION if config.drops_repeats else "keep",
        "embedder": embedders.wordllama_id(),
    }


def recipe_hash(recipe: dict[str, Any]) -> str:
    """Return the name of a recipe's cache folder, 16 hex digits."""
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def _build_docstring_payload(config: DataConfig, recipe: dict[str, Any], folder: Path) -> Payload:
    articles = docstring_articles(
        config.packages,
        min_chars=config.min_chars,
        max_chars=config.max_chars,
        min_article_chunks=config.min_article_chunks,
    )
    if not articles:
        raise UserError(
            f"packages: expected docstrings of {config.min_article_chunks} paragraphs or more, got none in "
            f"{', '.join(config.packages)}; name packages with longer documentation"
        )
    source = {**recipe, "corpus_sha256": corpus_sha256(articles)}
    vectors: Vectors = embedders.embed_wordllama(texts_of(articles))
    if config.drops_repeats:
        articles, vectors, found = repeats.drop_repeats(articles, vectors, min_chunks=config.min_article_chunks)
        source["repeats"] = asdict(found)
    return write_articles(folder, articles, vectors, recipe["embedder"], source)
