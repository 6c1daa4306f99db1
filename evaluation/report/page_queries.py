"""Twenty queries as a person reads them: the context, the true next chunk, what the best and the reference retrieved.

They are drawn evenly from four classes, since the interesting ones are where the two differ. All text is escaped.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from evaluation.measures.metrics import hits
from evaluation.report.page_data import REFERENCE, RunData
from evaluation.results import Arrays

NUM_QUERIES = 20
NUM_RESULTS = 3
NUM_OPEN = 2  # the others unfold at a click
MAX_CHARS = 280


def queries_section(run: RunData) -> str:
    """HTML of the sampled queries; a sentence that says why there are none, when there are none."""
    compared = [
        name
        for name in dict.fromkeys([run.best, REFERENCE])
        if name is not None and "neighbours" in run.arrays.get(name, {})
    ]
    if not compared or run.payload is None or "windows" not in run.arrays[compared[0]]:
        return '<p class="soft">No texts: the payload or the per-query arrays of this run are not at hand.</p>'
    sides = [(name, run.arrays[name]) for name in compared]
    chosen = choose(sides[0][1]["ranks"], sides[1][1]["ranks"] if len(sides) > 1 else sides[0][1]["ranks"])
    return "".join(_query(run, sides, query, is_open=place < NUM_OPEN) for place, query in enumerate(chosen))


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


def _query(run: RunData, sides: Sequence[tuple[str, Arrays]], query: int, *, is_open: bool) -> str:
    assert run.payload is not None
    window = [int(row) for row in sides[0][1]["windows"][query]]
    context, target = window[:-1], window[-1]
    title = run.payload.article_title(int(run.payload.article_index[target]))
    ranks = "".join(_rank_badge(name, int(arrays["ranks"][query])) for name, arrays in sides)
    earlier = "".join(f"<li>{_text(run, row)}</li>" for row in context[:-1])
    parts = [
        f"<dt>context</dt><dd><details><summary>{len(context) - 1} earlier chunks</summary><ol>{earlier}</ol></details>"
        f"{_text(run, context[-1])}</dd>",
        f'<dt>true next</dt><dd class="truth">{_text(run, target)}</dd>',
    ]
    for name, arrays in sides:
        found = [int(row) for row in arrays["neighbours"][query][:NUM_RESULTS] if row >= 0]
        items = "".join(f"<li>{_text(run, row)} {_tags(run, row, context, target)}</li>" for row in found)
        parts.append(f"<dt>{escape(name)}</dt><dd><ol>{items}</ol></dd>")
    opened = " open" if is_open else ""
    return (
        f'<details class="query"{opened}><summary><h3>{escape(title)}</h3>{ranks}</summary>'
        f"<dl>{''.join(parts)}</dl></details>"
    )


def _rank_badge(name: str, rank: int) -> str:
    kind = "good" if 1 <= rank <= 5 else "tie" if rank else "bad"
    return f'<span class="badge {kind}">{escape(name)}: {f"rank {rank}" if rank else "not in 50"}</span>'


def _tags(run: RunData, row: int, context: Sequence[int], target: int) -> str:
    assert run.payload is not None
    if row == target:
        return '<span class="tag hit">the target</span>'
    if np.array_equal(run.payload.vectors[row], run.payload.vectors[target]):
        return '<span class="tag hit">a copy of the target</span>'
    if row in context:
        return '<span class="tag">from the context</span>'
    if run.payload.article_index[row] == run.payload.article_index[target]:
        return '<span class="tag">same article</span>'
    return ""


def _text(run: RunData, row: int) -> str:
    assert run.payload is not None
    text = " ".join(run.payload.text(row).split())
    return escape(text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1].rstrip() + "…") or "(no text)"
