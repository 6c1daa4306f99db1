"""python -m evaluation.compare RUN_A RUN_B: what changed between two runs, see `evaluation.studies.compare`."""

if __name__ == "__main__":
    from evaluation.studies.compare import main

    raise SystemExit(main())
