"""Keep freed memory for the next step instead of handing it back to the system. Torch-free.

A training step frees and allocates the same large tensors over and over. By default the C library returns such blocks
to the kernel and gets them back page by page: measured 36,000 page faults a forward + backward of one block at 768.
"""

from __future__ import annotations

import ctypes
import sys

# <malloc.h> of the GNU C library
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3

MMAP_THRESHOLD = 32 * 1024 * 1024  # the largest that the library accepts: blocks beyond it are always mapped afresh
TOP_PAD = 64 * 1024 * 1024  # how much the heap grows at once; untouched pages cost nothing
TRIM_THRESHOLD = 1024 * 1024 * 1024  # how much free memory at the top of the heap is kept


def keep_freed_memory() -> bool:
    """Tell the allocator of this process to keep what is freed; return whether it is one that listens (GNU libc)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, MMAP_THRESHOLD), (M_TRIM_THRESHOLD, TRIM_THRESHOLD), (M_TOP_PAD, TOP_PAD))
    return all(mallopt(key, value) == 1 for key, value in settings)
