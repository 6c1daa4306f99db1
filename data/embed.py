"""Text to a payload, in parallel and resumable.

    python -m data.embed --corpus articles.jsonl.gz --out artifacts/books
    python -m data.embed --corpus texts/ --out artifacts/texts --chunk sentence --min-chars 20 --max-chars 300
    python -m data.embed --corpus articles.parquet --out artifacts/gtr --embedder sentence-transformers/gtr-t5-base

Use it in an experiment with `source: payload` and `payload: artifacts/books`. When it is stopped, the same command goes
on at the next shard. data.corpus.reading lists the forms of a corpus, data.corpus.embedders the embedders.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.corpus.chunking import ChunkRule
from data.corpus.embed import SHARD_CHUNKS, embed_corpus
from data.corpus.embedders import WORDLLAMA
from data.corpus.shards import local_runner, ray_runner
from data.errors import UserError, check_range, one_line
from data.interrupt import Interrupt
from data.output import held


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when the payload is written, 2 when the input is refused, 130 when stopped."""
    options = _parser().parse_args(arguments)
    try:
        check_range("--shard-chunks", options.shard_chunks, 1)
        with Interrupt(), held(options.out, "payload"):
            payload = embed_corpus(
                options.corpus,
                options.out,
                embedder=options.embedder,
                rule=ChunkRule(unit=options.chunk, min_chars=options.min_chars, max_chars=options.max_chars),
                shard_chunks=options.shard_chunks,
                dtype=options.dtype,
                repeats=options.repeats,
                runner=local_runner if options.local else ray_runner,
            )
    except (UserError, OSError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command goes on at the next shard\n")
        return 130
    found = payload.provenance.source.get("repeats")
    repeats = f"repeats   {found['repeats']:,} of {found['chunks']:,} chunks dropped\n" if found else ""
    sys.stdout.write(
        f"payload   {payload.num_rows:,} chunks of {payload.num_articles:,} articles, dimension {payload.dim}, "
        f"{payload.vectors.dtype}, embedder {payload.provenance.embedder}\n"
        f"{repeats}use it    source: payload, payload: {options.out}\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    rule = ChunkRule()
    parser = argparse.ArgumentParser(
        prog="python -m data.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help=".jsonl(.gz), .parquet or a folder of .txt and .md")
    parser.add_argument("--out", type=Path, required=True, help="folder of the payload to make")
    parser.add_argument("--chunk", choices=["paragraph", "sentence"], default=rule.unit)
    parser.add_argument("--min-chars", type=int, default=rule.min_chars)
    parser.add_argument("--max-chars", type=int, default=rule.max_chars)
    parser.add_argument("--embedder", default=WORDLLAMA, help="wordllama, or a sentence-transformers name or folder")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--repeats", choices=["drop", "keep"], default="drop", help="chunks that many articles share")
    parser.add_argument("--shard-chunks", type=int, default=SHARD_CHUNKS)
    parser.add_argument("--local", action="store_true", help="embed in this process, without Ray")
    return parser


if __name__ == "__main__":
    sys.exit(main())
