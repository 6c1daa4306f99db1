"""python -m evaluation.checkpoint: one checkpoint against its gates, see `evaluation.studies.checkpoint`."""

if __name__ == "__main__":
    # Inside the guard: a process of its own that predicts imports this module again, and must not import FAISS.
    from evaluation.studies.checkpoint import main

    raise SystemExit(main())
