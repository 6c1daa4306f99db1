"""Seeds: every random choice is drawn from a seed derived from names, never from a clock or a counter."""

import hashlib


def derive_seed(*parts: object) -> int:
    """Return a seed in [0, 2**63) that depends on the parts and on nothing else.

    The parts are joined by "/", hashed with sha256, and the first 8 bytes are masked to 63 bits, so that the value fits
    a signed 64-bit integer everywhere. Example: ``derive_seed(experiment_seed, "epoch", 3)``.
    """
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)
