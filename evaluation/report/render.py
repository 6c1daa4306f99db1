"""A section's cells as Markdown, plain text, LaTeX or HTML."""

import textwrap
from html import escape

from tabulate import tabulate

from evaluation.report.columns import Column, Section, number

WIDTH = 120


def markdown(section: Section) -> str:
    """A pipe table; pipes and line breaks inside a cell are escaped."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in section.cells()]
    return _tabulated(section, cells, "pipe")


def latex(section: Section) -> str:
    """A booktabs tabular (needs the package booktabs); tabulate escapes what LaTeX would read."""
    return _tabulated(section, section.cells(), "latex_booktabs")


def _tabulated(section: Section, cells: list[list[str]], style: str) -> str:
    headers = [column.header for column in section.columns]
    align = [column.align for column in section.columns]
    return tabulate(cells, headers, tablefmt=style, disable_numparse=True, colalign=align)


def plain(section: Section) -> str:
    """Columns two spaces apart (tabulate pads headers, which costs a terminal 16 columns); the last one is wrapped."""
    grid = [[column.header for column in section.columns], *section.cells()]
    widths = [max(len(row[place]) for row in grid) for place in range(len(section.columns))]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(WIDTH - indent, 20)
    widths[-1] = min(widths[-1], room)
    lines = []
    for row in [grid[0], ["-" * width for width in widths], *grid[1:]]:
        last, *more = textwrap.wrap(row[-1], room) or [""]
        cells = zip([*row[:-1], last], widths, section.columns, strict=True)
        line = "  ".join(f"{cell:{'<' if column.align == 'left' else '>'}{width}}" for cell, width, column in cells)
        lines += [line.rstrip(), *(" " * indent + rest for rest in more)]
    return "\n".join(lines)


def html(section: Section) -> str:
    """A table whose header cells sort it (with the page's script) by the figures behind the cells."""
    head = "".join(f'<th scope="col" class="{column.align}">{escape(column.header)}</th>' for column in section.columns)
    body = "".join(
        f"<tr>{''.join(map(_html_cell, section.columns, [row] * len(cells), cells))}</tr>"
        for row, cells in zip(section.rows, section.cells(), strict=True)
    )
    return f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _html_cell(column: Column, row: dict[str, object], cell: str) -> str:
    value = number(row, column.key) if column.key else None
    sort = f' data-sort="{value!r}"' if value is not None else ""
    main, bracket, interval = cell.partition(" (") if column.key else (cell, "", "")
    shown = escape(main) + (f' <span class="ci">({escape(interval)}</span>' if bracket else "")
    return f'<td class="{column.align}"{sort}>{shown}</td>'
