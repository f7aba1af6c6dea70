"""A zoo as one HTML page: a sortable table of its entries, then their cards with pictures. It needs no network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from cphloc.metrics.direction import lower_is_better
from cphloc.paths import atomic
from cphloc.zoo.card import card, stated, verdict
from cphloc.zoo.entries import Listing, list_entries

PAGE_FILE = "index.html"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .7rem; text-align: left; vertical-align: top; }
th button { font: inherit; font-weight: 600; border: 0; background: none; cursor: pointer; padding: 0; color: inherit; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
tbody tr:hover { background: var(--soft); }
details { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem; margin: .7rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre, code { background: var(--soft); border-radius: .3rem; padding: .1rem .3rem; }
pre { padding: .7rem; overflow-x: auto; }
img { max-width: 100%; height: auto; }
input { font: inherit; padding: .3rem .5rem; min-width: 16rem; }
"""

_SCRIPT = """
const body = document.querySelector("#entries tbody");
document.querySelectorAll("#entries th").forEach((head, column) => head.firstChild.addEventListener("click", () => {
  const first = head.dataset.best || "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  document.querySelectorAll("#entries th").forEach(h => h.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const sign = order === "ascending" ? 1 : -1;
  [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const numbers = !isNaN(x) && !isNaN(y);
    return sign * (numbers ? x - y : x.localeCompare(y, "en", {numeric: true}));
  }).forEach(row => body.append(row));
}));
document.querySelector("#filter").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\\s+/);
  for (const row of body.rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
});
addEventListener("hashchange", () => document.querySelector(location.hash)?.setAttribute("open", ""));
"""


def zoo_page(folder: str | Path) -> Path:
    """Write the page of a zoo folder, beside the entries whose pictures it shows, and return its path.

    Raises:
        RecipeError: with the mistakes of an entry that cannot be read.
    """
    folder = Path(folder)
    entries = list_entries(all_versions=True, zoos=[str(folder)])
    with atomic(folder / PAGE_FILE) as temporary:
        temporary.write_text(page(entries), encoding="utf-8")
    return folder / PAGE_FILE


def page(entries: list[Listing]) -> str:
    """The page of these entries as HTML; links to their files are relative to the zoo's folder."""
    metrics = list(dict.fromkeys(name for e in entries for name in e.entry.evaluation.metrics))
    heads = "".join(_head(*head) for head in _heads(metrics))
    rows = "\n".join(_row(listing, metrics) for listing in entries)
    cards = "\n".join(_card(listing) for listing in entries)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cphloc zoo</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>cphloc zoo</h1>
<p>{len(entries)} published versions. Metrics on the test split, with 95 % intervals; click a heading to sort.</p>
<p><label>Filter <input id="filter" type="search" placeholder="CT segmentation"></label></p>
<table id="entries">
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
<h2>Cards</h2>
{cards}
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _heads(metrics: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Titles of the columns, and whether a large value is the best."""
    yield from ((title, False) for title in ("entry", "task", "dims", "modality", "data", "licence"))
    yield from ((name, not lower_is_better(name)) for name in metrics)
    yield from ((title, False) for title in ("parameters", "MB", "ms a case"))


def _head(title: str, large_is_best: bool) -> str:
    best = ' data-best="descending"' if large_is_best else ""
    return f'<th scope="col"{best}><button type="button">{escape(title)}</button></th>'


def _row(listing: Listing, metrics: Iterable[str]) -> str:
    entry = listing.entry
    facts = (entry.task, f"{entry.dims}-D", ", ".join(entry.modality), entry.data.name, entry.data.licence)
    cells = [f'<td data-value="{listing}"><a href="#{_anchor(listing)}">{listing}</a></td>']
    cells += [f"<td>{escape(fact)}</td>" for fact in facts]
    for name in metrics:
        found = entry.evaluation.metrics.get(name)
        known = found is not None and found.n
        cells.append(f'<td data-value="{found.value if known else ""}">{stated(found) if known else ""}</td>')
    for value, text in (
        (entry.size.parameters, f"{entry.size.parameters / 1e6:.2f} M"),
        (entry.weights.bytes, f"{entry.weights.bytes / 1e6:.1f}"),
        (entry.speed.ms_per_case, f"{entry.speed.ms_per_case:,.0f}"),
    ):
        cells.append(f'<td data-value="{value}">{text}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _card(listing: Listing) -> str:
    entry = listing.entry
    body = html_of(card(entry).partition("\n")[2], f"{listing.name}/{listing.version}/")
    title = f"{listing}: {escape(entry.summary)}"
    hint = escape(verdict(entry).strip("*"))
    return f'<details id="{_anchor(listing)}"><summary title="{hint}">{title}</summary>\n{body}\n</details>'


def _anchor(listing: Listing) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"entry-{listing}")


def html_of(markdown: str, base: str) -> str:
    """The Markdown that `cphloc.zoo.card.card` writes, as HTML; everything people wrote in it is escaped.

    Args:
        markdown: blocks between blank lines: headings, paragraphs, lists, tables and fenced code; in them pictures,
            links, bold and code.
        base: folder that links are relative to, with a slash at the end.

    >>> html_of("- a **b** & c", "")
    '<ul><li>a <strong>b</strong> &amp; c</li></ul>'
    """
    return "\n".join(_block(block.strip("\n"), base) for block in re.split(r"\n{2,}", markdown.strip()))


def _block(block: str, base: str) -> str:
    lines = block.split("\n")
    if block.startswith("```"):
        return f"<pre><code>{escape(chr(10).join(lines[1:-1]))}</code></pre>"
    if block.startswith("## "):
        return f"<h3>{_inline(block[3:], base)}</h3>"
    if block.startswith("- "):
        return "<ul>" + "".join(f"<li>{_inline(line[2:], base)}</li>" for line in lines) + "</ul>"
    if block.startswith("| "):
        return f"<table>{''.join(_table_row(n, line, base) for n, line in enumerate(lines) if n != 1)}</table>"
    return f"<p>{_inline(' '.join(lines), base)}</p>"


def _table_row(number: int, line: str, base: str) -> str:
    cells = [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
    kind = "td" if number else "th"
    if not any(cells):
        return ""
    return "<tr>" + "".join(f"<{kind}>{_inline(cell, base)}</{kind}>" for cell in cells) + "</tr>"


def _inline(text: str, base: str) -> str:
    def target(url: str) -> str:
        return url if re.match(r"(?:https?|s3|hf|file)://", url) else base + url

    text = escape(text)
    text = re.sub(r"!\[([^]]*)\]\(([^)]+)\)", lambda m: f'<img alt="{m[1]}" loading="lazy" src="{target(m[2])}">', text)
    text = re.sub(r"\[([^]]+)\]\(([^)]+)\)", lambda m: f'<a href="{target(m[2])}">{m[1]}</a>', text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
