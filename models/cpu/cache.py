"""Where compiled kernels are kept: with this user, by what the source says and not by where it lies.

numba would keep them beside the source. A second clone, or the copy of the packages that a cluster's node gets with
every job, would compile them again, which takes 20 s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from numba import config
from numba.core.caching import UserWideCacheLocator


class ByContent(UserWideCacheLocator):  # type: ignore[misc]
    """numba's folder of this user, and in it one for each content of the source."""

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """Return the name of the folder for a source file."""
        return f"next_vector_{hashlib.sha256(Path(py_file).read_bytes()).hexdigest()[:16]}"


@contextmanager
def kept_by_content() -> Iterator[None]:
    """Let numba cache so what is declared inside, or beside its source where the user's folder cannot be written.

    What the environment says of numba's cache comes first.
    """
    before = config.CACHE_LOCATOR_CLASSES
    if not (before or config.CACHE_DIR):
        config.CACHE_LOCATOR_CLASSES = f"{ByContent.__module__}.{ByContent.__name__},InTreeCacheLocator"
    try:
        yield
    finally:
        config.CACHE_LOCATOR_CLASSES = before
