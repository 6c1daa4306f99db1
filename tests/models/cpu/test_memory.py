"""Keeping freed memory."""

import subprocess
import sys

import pytest

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

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an allocator setting of the GNU C library")
def test_a_step_that_reuses_its_memory_takes_hardly_any_page_faults() -> None:
    def faults(mode: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout
        )

    assert faults("leave") > 5_000  # 72 MiB a step are 18,000 pages of 4 kB
    assert faults("keep") < 500
