"""python -m evaluation.ablation RUN: what each part of the reranker is worth, see `evaluation.studies.ablation`."""

if __name__ == "__main__":
    from evaluation.studies.ablation import main

    raise SystemExit(main())
