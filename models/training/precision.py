"""In which precision a device multiplies matrices fastest.

A CPU that cannot multiply bfloat16 emulates it. On one with AVX2 only, a product of (900, 192) and (192, 1280) takes
370 ms in bfloat16 and 8.3 ms in float32.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch

from models.spec.optim import Precision

CPU_CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""What torch.cpu has of these; the names begin with an underscore and may change with any version."""


def resolve_precision(wanted: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the precision of the products on `device`: for "auto" bfloat16 where that is native, else float32.

    A bfloat16 that was asked for by name is taken, with a warning on a CPU that emulates it.
    """
    native = multiplies_bfloat16(device)
    if wanted == "auto":
        return "bfloat16" if native else "float32"
    if wanted == "bfloat16" and device.type == "cpu" and not native:
        warnings.warn(
            "training.precision: expected float32 on a CPU that only emulates bfloat16, got bfloat16, which may be "
            "40 times slower; set it to auto",
            stacklevel=2,
        )
    return wanted


def multiplies_bfloat16(device: torch.device) -> bool:
    """Say whether the device has instructions for products in bfloat16: CUDA from capability 8.0, some CPUs."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    checks = [getattr(torch.cpu, name, None) for name in CPU_CHECKS]
    return device.type == "cpu" and any(check() for check in checks if check is not None)
