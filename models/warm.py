"""Compile the kernels for this machine before the first worker needs them.

python -m models.warm
"""

import torch

from models.blocks.mamba import MambaBlock


def compile_kernels() -> None:
    """Run a small block forward and backward in float32 and in bfloat16; the compiled kernels stay in the cache."""
    block, u = MambaBlock(64, 16), torch.randn(64, 5, 64)  # so many windows take the compiled form
    for low in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            result = block(u)
        result.sum().backward()


if __name__ == "__main__":
    compile_kernels()
