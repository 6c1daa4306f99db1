"""Style and script of report.html: one file, no network, light and dark by the reader's own setting."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #5b6675; --rule: #dfe3e9; --grid: #e9ecf1;
  --good: #14795a; --good-bg: #dff3ea; --bad: #b3261e; --bad-bg: #fbe4e2; --tie: #75580a; --tie-bg: #fbf0cf;
  --c0: #2f6bd8; --c1: #d9622b; --c2: #1f9468; --c3: #a83f8e; --c4: #b98a00; --c5: #2c98b3; --c6: #8a6a55;
  --c7: #7a8494;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161d; --card: #1a2029; --ink: #e6eaf0; --soft: #9aa6b5; --rule: #2c3542; --grid: #262e3a;
    --good: #6fd3ac; --good-bg: #17382d; --bad: #ff9b93; --bad-bg: #44201e; --tie: #ecca62; --tie-bg: #3b3116;
    --c0: #7aa7ff; --c1: #ff9a66; --c2: #5fd0a0; --c3: #e48ccd; --c4: #e8c24a; --c5: #6fcfe6; --c6: #c9a68f;
    --c7: #a6b0bf;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 44px 0 4px; }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 6px 0; } .soft { color: var(--soft); }
.lead { max-width: 78ch; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 18px 0 0; font-size: .88rem; }
a { color: var(--c0); text-decoration: none; } a:hover { text-decoration: underline; }
.badge { display: inline-block; padding: 1px 9px; border-radius: 99px; font-size: .78rem; font-weight: 600;
  white-space: nowrap; background: var(--grid); color: var(--soft); }
.badge.good { background: var(--good-bg); color: var(--good); }
.badge.bad { background: var(--bad-bg); color: var(--bad); }
.badge.tie { background: var(--tie-bg); color: var(--tie); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: 12px; margin: 20px 0 0; }
.card, figure, .scroll, .query { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.card { padding: 12px 14px; }
.card b { display: block; font-size: 1.45rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .82rem; display: block; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 14px;
  margin-top: 12px; }
figure { margin: 0; padding: 14px 14px 8px; min-width: 0; }
figcaption { font-size: .82rem; color: var(--soft); margin-bottom: 6px; }
figcaption h3 { color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11.5px; fill: var(--soft); font-family: inherit; font-variant-numeric: tabular-nums; }
svg .name { fill: var(--ink); } svg .grid { stroke: var(--grid); } svg .base { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke: var(--colour); stroke-width: 2.2; stroke-linejoin: round; }
svg .line.dashed { stroke-dasharray: 5 4; stroke-width: 1.8; }
svg .dot { fill: var(--card); stroke: var(--colour); stroke-width: 2; } svg .fill { fill: var(--colour); }
svg .guide { stroke: var(--bad); stroke-dasharray: 2 4; stroke-width: 1.4; } svg .guide-label { fill: var(--bad); }
svg .mark { stroke: var(--bad); stroke-width: 2.6; fill: none; }
.c0 { --colour: var(--c0); } .c1 { --colour: var(--c1); } .c2 { --colour: var(--c2); } .c3 { --colour: var(--c3); }
.c4 { --colour: var(--c4); } .c5 { --colour: var(--c5); } .c6 { --colour: var(--c6); } .c7 { --colour: var(--c7); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 0; margin: 6px 0 4px;
  font-size: .82rem; }
.swatch { display: inline-block; width: 18px; height: 0; border-top: 3px solid var(--colour); vertical-align: middle;
  margin-right: 6px; } .swatch.dashed { border-top-style: dashed; } .blocks .swatch { border-top-width: 10px;
  width: 12px; }
.scroll { overflow-x: auto; margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: 7px 12px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { font-size: .78rem; color: var(--soft); font-weight: 600; white-space: nowrap; vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 0; }
th.right, td.right { text-align: right; white-space: nowrap; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--card); font-weight: 600;
  white-space: nowrap; }
.ci { color: var(--soft); font-size: .82em; }
.sortable th { cursor: pointer; user-select: none; } .sortable th:hover { color: var(--ink); }
th[aria-sort=ascending]::after { content: " \\2191"; } th[aria-sort=descending]::after { content: " \\2193"; }
td.wide { min-width: 22rem; font-weight: 400; } .matrix td, .matrix th { text-align: center; white-space: nowrap; }
.matrix td:first-child { text-align: left; }
td.left:last-child { min-width: 11rem; }
.matrix td.good { background: var(--good-bg); color: var(--good); }
.matrix td.bad { background: var(--bad-bg); color: var(--bad); }
.matrix small { display: block; color: var(--soft); }
.query { padding: 12px 16px; margin-top: 10px; }
.query > summary h3 { display: inline; margin-right: 10px; color: var(--ink); }
.query > summary .badge { margin: 2px 6px 2px 0; }
.query dl { margin: 8px 0 0; display: grid; grid-template-columns: 7.5rem 1fr; gap: 6px 14px; }
.query dt { color: var(--soft); font-size: .82rem; padding-top: 2px; }
.query dd { margin: 0; min-width: 0; overflow-wrap: anywhere; } .query ol { margin: 0; padding-left: 1.3em; }
.query li { margin-bottom: 3px; } .query .truth { border-left: 3px solid var(--good); padding-left: 9px; }
summary { cursor: pointer; color: var(--soft); font-size: .88rem; }
.tag { font-size: .75rem; color: var(--soft); border: 1px solid var(--rule); border-radius: 4px; padding: 0 5px;
  white-space: nowrap; } .tag.hit { color: var(--good); border-color: var(--good); }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; font-size: .85rem;
  margin: 10px 0 0; }
footer dt { color: var(--soft); } footer dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 620px) {
  main { padding: 18px 12px 48px; } h1 { font-size: 1.4rem; } h2 { margin-top: 32px; }
  .cards { grid-template-columns: 1fr 1fr; } .card b { font-size: 1.2rem; } figure { padding: 10px 8px 6px; }
  svg text { font-size: 14px; } th, td { padding: 6px 8px; } td.wide { min-width: 15rem; }
  .query dl { grid-template-columns: 1fr; gap: 2px; } .query dd { margin-bottom: 6px; }
  footer dl { grid-template-columns: 1fr; gap: 0; } footer dd { margin-bottom: 6px; }
}
@media print { body { background: none; } nav { display: none; } figure, .query { break-inside: avoid; } }
"""

SCRIPT = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  table.querySelectorAll("th").forEach(function (head, place) {
    head.tabIndex = 0;
    function sort() {
      var up = head.getAttribute("aria-sort") === "descending";
      table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var body = table.tBodies[0], rows = Array.from(body.rows);
      function figure(row) { var value = row.cells[place].dataset.sort;
  return value === undefined ? null : Number(value); }
      var numeric = rows.some(function (row) { return figure(row) !== null; });
      rows.sort(function (a, b) {
        if (!numeric) {
          var order = a.cells[place].textContent.localeCompare(b.cells[place].textContent);
          return up ? -order : order;
        }
        var x = figure(a), y = figure(b);
        if (x === null || y === null) { return (x === null) - (y === null); }
        return up ? x - y : y - x;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    }
    head.addEventListener("click", sort);
    head.addEventListener("keydown", function (event) { if (event.key === "Enter") { sort(); } });
  });
});
"""
