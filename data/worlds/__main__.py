"""Write a synthetic world as a payload.

    python -m data.worlds rotation --out artifacts/worlds/rotation

The worlds and their rules: data/worlds/make.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError
from data.worlds.make import WORLDS, make_world, write_world


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when written, 2 when refused."""
    parser = argparse.ArgumentParser(
        prog="python -m data.worlds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help=", ".join(WORLDS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the payload to make")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        world = make_world(options.name, seed=options.seed)
        payload = write_world(world, options.out, options.name)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"payload   {payload.num_rows:,} chunks of {payload.num_articles:,} articles, dimension {payload.dim}\n"
        f"use it    source: payload, payload: {options.out}, context_length: {world.context_length}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
