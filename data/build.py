"""Turn the files that people have into the project's payload and window table.

    python -m data.build --payload corpus.npy --out artifacts/corpus
    python -m data.build --payload corpus.npy --train train.npz --val val.npz --eval eval.npz --out artifacts/corpus
    python -m data.build --payload vectors.npy --keys keys.npy --embedder my-model --out artifacts/corpus
    python -m data.build --payload artifacts/corpus --out corpus.parquet

What it makes is opened with `source: payload` and `payload: artifacts/corpus` in an experiment. Steps: read the payload
(data.foreign.formats), find the rows of the sequences (data.foreign.sequences) or cut windows by the rule
(data.windows.table), check, write.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError, one_line
from data.foreign.assemble import CutRule, SequenceFiles, build
from data.foreign.parquet import write_parquet
from data.output import held
from data.payload.store import open_payload
from data.preflight.check import table_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when built, 2 when the input is refused."""
    options = _parser().parse_args(arguments)
    try:
        with held(options.out, "payload"):
            _build(options)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    return 0


def _build(options: argparse.Namespace) -> None:
    if options.out.suffix == ".parquet":
        write_parquet(open_payload(options.payload), options.out)
        _say(f"wrote {options.out}")
        return
    built = build(
        options.payload,
        options.out,
        keys=options.keys,
        embedder=options.embedder,
        files=_files(options),
        realign=options.realign,
        rule=CutRule(
            context_length=options.context_length,
            min_article_chunks=options.min_article_chunks,
            val_share=options.val_share,
            test_share=options.test_share,
            seed=options.seed,
        ),
    )
    _say(built.summary)
    if built.checks:
        _say(table_of(built.checks))
    _say(f"use it    source: payload, payload: {options.out}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _files(options: argparse.Namespace) -> SequenceFiles | None:
    given = [option for option in (options.train, options.val, options.eval) if option is not None]
    if not given:
        return None
    if len(given) < 3:
        raise UserError("--train, --val, --eval: expected all three files or none, got some; name the missing ones")
    return SequenceFiles(train=options.train, val=options.val, test=options.eval)


def _parser() -> argparse.ArgumentParser:
    rule = CutRule()
    parser = argparse.ArgumentParser(
        prog="python -m data.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payload", type=Path, required=True, help="pickled .npy, .npy with --keys, Parquet, folder")
    parser.add_argument("--keys", type=Path, help="(N, 2) article_index and chunk_index of a plain .npy")
    parser.add_argument("--train", type=Path, help="training sequences, .npz")
    parser.add_argument("--val", type=Path, help="validation sequences, .npz")
    parser.add_argument("--eval", type=Path, help="evaluation sequences, .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder to make, or a .parquet file to write")
    parser.add_argument("--embedder", help="who made the vectors, when the file does not say")
    parser.add_argument("--realign", action="store_true", help="use the payload's rows where a file's vectors differ")
    parser.add_argument("--context-length", type=int, default=rule.context_length)
    parser.add_argument("--min-article-chunks", type=int, default=rule.min_article_chunks)
    parser.add_argument("--val-share", type=float, default=rule.val_share)
    parser.add_argument("--test-share", type=float, default=rule.test_share)
    parser.add_argument("--seed", type=int, default=rule.seed)
    return parser


if __name__ == "__main__":
    sys.exit(main())
