"""Folders that appear in one step, and arrays that are opened with a clear word about what is wrong with them."""

import contextlib
import errno
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def replace_folder(temporary: Path, target: Path) -> None:
    """Move a finished folder into place, whatever is there, even while another process does the same.

    A folder that is not empty cannot be replaced, so it steps aside; maps that others hold of its files stay valid.
    """
    temporary.chmod(0o755)  # mkdtemp makes it private
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        for attempt in itertools.count():
            with contextlib.suppress(FileNotFoundError):
                target.replace(aside / str(attempt))
            try:
                temporary.replace(target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another process put its folder there in between
    finally:
        shutil.rmtree(aside)


def open_array(file: Path, shape: tuple[int, ...]) -> Any:
    """Map one array read-only and check its shape; numpy itself notices a file that is shorter than its header says."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{file}: expected an array of shape {shape}, got no file; build the payload again"
        ) from None
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{file}: expected an array of shape {shape}, got a damaged file ({error}); build the payload again"
        ) from error
    if array.shape != shape:
        raise ValueError(f"{file}: expected shape {shape}, got {array.shape}; build the payload again")
    return array
