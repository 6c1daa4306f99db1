"""Keeping freed memory, where the system knows how."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.cpu import memory

PROGRAM = """
import ctypes, resource, sys
from models.cpu.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def step():
    blocks = [libc.malloc(size << 20) for size in (20, 24, 28)]
    for block, size in zip(blocks, (20, 24, 28)):
        ctypes.memset(block, 1, size << 20)
    for block in blocks:
        libc.free(block)

for _ in range(2):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="an allocator setting of the GNU C library")
def test_a_step_that_reuses_its_memory_takes_hardly_any_page_faults() -> None:
    def faults(mode: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout
        )

    assert faults("leave") > 5_000  # 72 MiB are 18,000 pages of 4 kB
    assert faults("keep") < 500


def test_without_the_setting_of_the_gnu_library_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())  # macOS and musl have no mallopt
    assert not memory.keep_freed_memory()


def test_without_proc_memory_is_kept_in_pages_of_the_usual_size(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {}

    def mallopt(key: int, value: int) -> int:
        settings[key] = value
        return 1

    def malloc(size: int) -> int:
        return size

    def free(block: int) -> None:
        settings["grown"] = block

    def madvise(*_: int) -> int:
        raise AssertionError

    libc = SimpleNamespace(mallopt=mallopt, malloc=malloc, free=free, madvise=madvise)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    monkeypatch.setattr(memory, "MAPS", Path("/nowhere/maps"))
    assert memory.keep_freed_memory()
    assert settings[memory.M_TRIM_THRESHOLD] == 2**30 and settings["grown"] == 30 * 2**20
