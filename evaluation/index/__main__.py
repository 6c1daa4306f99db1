"""python -m evaluation.index sweep RUN: nprobe (and k_factor) against fidelity, Contain@50, R@5 and P95."""

if __name__ == "__main__":
    # Inside the guard, since a process of its own that predicts imports this module again.
    from evaluation.studies.sweep import main

    raise SystemExit(main())
