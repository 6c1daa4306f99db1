"""python -m evaluation.index sweep RUN: nprobe (and k_factor) against fidelity, Contain@50, R@5 and P95."""

from evaluation.sweep import main

if __name__ == "__main__":
    raise SystemExit(main())
