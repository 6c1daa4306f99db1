"""python -m evaluation.seeds RUN RUN ...: an experiment under several seeds, pooled, see `evaluation.studies.seeds`."""

if __name__ == "__main__":
    from evaluation.studies.seeds import main

    raise SystemExit(main())
