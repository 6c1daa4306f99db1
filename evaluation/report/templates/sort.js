"use strict";

function figure(row, place) {
  const value = row.cells[place].dataset.sort;
  return value === undefined ? null : Number(value);
}

/* Text by the alphabet, figures by size, a missing figure last. */
function compare(a, b, place, numeric, up) {
  if (!numeric) {
    return (up ? 1 : -1) * a.cells[place].textContent.localeCompare(b.cells[place].textContent);
  }
  const x = figure(a, place), y = figure(b, place);
  if (x === null || y === null) { return (x === null) - (y === null); }
  return up ? x - y : y - x;
}

function sort(table, head, place) {
  const up = head.getAttribute("aria-sort") === "descending";
  table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = Array.from(table.tBodies[0].rows);
  const numeric = rows.some((row) => figure(row, place) !== null);
  rows.sort((a, b) => compare(a, b, place, numeric, up));
  rows.forEach((row) => table.tBodies[0].appendChild(row));
}

document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("th").forEach((head, place) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(table, head, place));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") { sort(table, head, place); } });
  });
});

/* Paper cannot unfold anything. */
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
