"""python -m evaluation.index_file INDEX.faiss --payload FOLDER: compare an index file with a payload."""

from evaluation.index.file import main

if __name__ == "__main__":
    raise SystemExit(main())
