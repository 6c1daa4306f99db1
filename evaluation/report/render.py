"""A section's cells as Markdown, plain text or LaTeX; HTML comes from the templates, which escape by themselves."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.report.columns import Column, Section

WIDTH = 120
LEAST_PROSE = 24  # a last column of prose is wrapped, but not below this

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_TEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"[": "{[}", "*": "{*}"}  # at the start of a row they would belong to the line break before it
)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no emphasis, no links, no cell borders."""
    text = re.sub(r"([\\`*|\[\]]|\b_|_\b)", r"\\\1", " ".join(text.split()))
    text = re.sub(r"&(?=[#A-Za-z])", "&amp;", text)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def tex_text(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return " ".join(text.split()).translate(_TEX)


def markdown(section: Section) -> str:
    """A pipe table."""
    grid = [[markdown_text(cell) for cell in row] for row in ([one.title for one in section.columns], *section.cells())]
    widths = [max(map(len, cells)) for cells in zip(*grid, strict=True)]
    rule = ["-" * width for width in widths]
    rule = [
        f"{one[:-1]}:" if column.align == "right" else one for one, column in zip(rule, section.columns, strict=True)
    ]
    return "\n".join(f"| {_line(row, widths, section.columns, ' | ')} |" for row in [grid[0], rule, *grid[1:]])


def latex(section: Section, label: str, caption: str) -> str:
    """A table environment with a booktabs tabular; prose, which only a last column has, is wrapped."""
    head = [_tex_header(column) for column in section.columns]
    rows = [[tex_text(cell) for cell in row] for row in section.cells()]
    lines = [" & ".join(row) + r" \\" for row in [head, *rows]]
    columns = [column.align[0] for column in section.columns]
    if max(len(row[-1]) for row in rows) > LEAST_PROSE:
        columns[-1] = r"p{0.4\linewidth}"
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{tex_text(caption)}}}\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', label)}}}",
            rf"\begin{{tabular}}{{{''.join(columns)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _tex_header(column: Column) -> str:
    lines = r"\\".join(map(tex_text, column.header.split("\n")))
    return rf"\shortstack[{column.align[0]}]{{{lines}}}" if "\n" in column.header else lines


def plain(section: Section, width: int = WIDTH) -> str:
    """Columns two spaces apart within `width`: the last one is wrapped, and no number is ever broken.

    Where that is not enough, intervals move below their figures, then optional columns are left out.
    """
    for shown, grid in _narrower(section):
        columns = shown
        widths = [max(len(line) for cell in cells for line in cell.split("\n")) for cells in zip(*grid, strict=True)]
        room = width - sum(widths[:-1]) - 2 * (len(widths) - 1)
        least = min(LEAST_PROSE, max(len(word) for row in grid for word in [*row[-1].split(), ""]))
        if room >= least:
            break
    widths[-1] = min(widths[-1], max(room, least))
    head = [cell.rjust(len(cell) + 1, "\n") if _two_lines(grid[0]) and "\n" not in cell else cell for cell in grid[0]]
    lines = []
    for row in [head, ["-" * width for width in widths], *grid[1:]]:
        cells = [cell.split("\n") for cell in row]
        if row is not head:
            cells[-1] = textwrap.wrap(row[-1], widths[-1])
        lines += [_line(parts, widths, columns).rstrip() for parts in zip_longest(*cells, fillvalue="")]
    return "\n".join(lines)


def _narrower(section: Section) -> Iterator[tuple[list[Column], list[list[str]]]]:
    """The columns and the cells with the headers above them, every time narrower."""
    columns = list(section.columns)
    grid = [[column.header for column in columns], *section.cells()]
    yield columns, grid
    grid = [grid[0], *([*(cell.replace(" (", "\n(") for cell in row[:-1]), row[-1]] for row in grid[1:])]
    yield columns, grid
    for place in [place for place, column in enumerate(section.columns) if column.optional][::-1]:
        columns = columns[:place] + columns[place + 1 :]
        grid = [row[:place] + row[place + 1 :] for row in grid]
        yield columns, grid


def _two_lines(header: list[str]) -> bool:
    return any("\n" in cell for cell in header)


def _line(parts: Sequence[str], widths: Sequence[int], columns: Sequence[Column], between: str = "  ") -> str:
    cells = zip(parts, widths, columns, strict=True)
    return between.join(f"{cell:{'<' if column.align == 'left' else '>'}{width}}" for cell, width, column in cells)
