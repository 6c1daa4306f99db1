"""python -m evaluation.report RUN: render report.html again."""

from evaluation.report.page import main

if __name__ == "__main__":
    raise SystemExit(main())
