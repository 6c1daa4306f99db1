"""python -m evaluation.index_file INDEX.faiss --payload FOLDER: compare an index file with a payload."""

if __name__ == "__main__":
    from evaluation.index.file import main

    raise SystemExit(main())
