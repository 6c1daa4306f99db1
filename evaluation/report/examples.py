"""Twenty queries as a person reads them: the context, the true next chunk, what the best variant and the best baseline
retrieved. They are drawn evenly from four classes, since the interesting ones are where the two differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.measures.metrics import hits
from evaluation.report.run_data import RunData
from evaluation.results import Arrays

NUM_QUERIES = 20
NUM_RESULTS = 3
MAX_CHARS = 280

Tagged = tuple[str, str]
"""A chunk's text and what it is to the query: `the target`, `from the context` ..., or nothing."""


@dataclass(frozen=True, slots=True)
class Example:
    """One query's texts."""

    title: str
    ranks: Sequence[tuple[str, int]]  # row -> rank of the target, 0: not found
    copied: float | None  # largest cosine of the target with a training chunk
    context: Sequence[str]
    truth: str
    found: Sequence[tuple[str, Sequence[Tagged]]]  # row -> the first results


def examples(run: RunData) -> list[Example]:
    """The sampled queries, novel ones where there are some; none without the payload or the per-query arrays."""
    named = [row["variant"] for kind in ("variant", "baseline") if (row := run.first(kind))]
    sides = [(name, run.single[name]) for name in named if "neighbours" in run.single.get(name, {})]
    if not sides or run.payload is None or run.queries is None:
        return []
    novel = run.queries.novel
    pool = np.flatnonzero(novel) if novel.any() else np.arange(len(novel))
    chosen = choose(sides[0][1]["ranks"][pool], sides[-1][1]["ranks"][pool])
    return [_query(run, sides, int(pool[place])) for place in chosen]


def choose(best: np.ndarray, other: np.ndarray, num: int = NUM_QUERIES, seed: int = 0) -> list[int]:
    """Query numbers: as evenly as possible only-best, only-other, both and neither within the first five."""
    a, b = hits(best, 5), hits(other, 5)
    rng = np.random.default_rng(seed)
    classes = [list(rng.permutation(np.flatnonzero(one))) for one in (a & ~b, b & ~a, a & b, ~a & ~b)]
    chosen: list[int] = []
    while len(chosen) < min(num, len(best)):
        for members in classes:
            if members and len(chosen) < num:
                chosen.append(int(members.pop()))
    return chosen


def _query(run: RunData, sides: Sequence[tuple[str, Arrays]], query: int) -> Example:
    assert run.payload is not None and run.queries is not None
    *context, target = (int(row) for row in run.queries.windows[query])
    return Example(
        title=run.payload.article_title(int(run.payload.article_index[target])),
        ranks=[(name, int(arrays["ranks"][query])) for name, arrays in sides],
        copied=float(run.queries.max_train_cosine[query]),
        context=[_text(run, row) for row in context],
        truth=_text(run, target),
        found=[
            (name, [(_text(run, row), _tag(run, row, context, target)) for row in _first(arrays, query)])
            for name, arrays in sides
        ],
    )


def _first(arrays: Arrays, query: int) -> list[int]:
    return [int(row) for row in arrays["neighbours"][query][:NUM_RESULTS] if row >= 0]


def _tag(run: RunData, row: int, context: Sequence[int], target: int) -> str:
    assert run.payload is not None
    if row == target:
        return "the target"
    if np.array_equal(run.payload.vectors[row], run.payload.vectors[target]):
        return "a copy of the target"
    if row in context:
        return "from the context"
    return "same article" if run.payload.article_index[row] == run.payload.article_index[target] else ""


def _text(run: RunData, row: int) -> str:
    assert run.payload is not None
    text = " ".join(run.payload.text(row).split())
    return (text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1].rstrip() + "…") or "(no text)"
