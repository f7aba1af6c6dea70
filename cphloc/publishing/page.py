"""Write a zoo as one HTML page without network access: tiles, model cards, and a table to sort and filter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from cphloc.files import atomic
from cphloc.inference.html_page import html_page
from cphloc.publishing.card import beats_baseline, format_metric, model_card, picture_files, verdict
from cphloc.publishing.card_html import html_of
from cphloc.publishing.options import options_with_gain
from cphloc.registry.metrics import lower_is_better, meanings
from cphloc.zoo.entries import Listing, list_entries
from cphloc.zoo.inside import lies_in

PAGE_FILE = "index.html"


def zoo_page(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the page of a zoo folder and return its path.

    Args:
        folder: the zoo; the page links to its pictures.
        path: where to write; by default ``index.html`` beside the entries.

    Raises:
        RecipeError: with the mistakes of an entry that cannot be read.
    """
    folder = Path(folder)
    path = folder / PAGE_FILE if path is None else Path(path)
    here = list_entries(all_versions=True, zoos=[str(folder)])
    entries = [e for e in here if lies_in(folder, Path(e.place)) and not e.note]
    base = Path(os.path.relpath(folder.resolve(), path.resolve().parent)).as_posix()
    with atomic(path) as temporary:
        temporary.write_text(page(entries, "" if base == "." else f"{quote(base)}/"), encoding="utf-8")
    return path


def page(entries: list[Listing], base: str = "") -> str:
    """Return the HTML page of entries.

    Args:
        entries: entries to show.
        base: the zoo's folder as links name it, with a slash at the end.
    """
    metrics = list(dict.fromkeys(name for e in entries for name in e.entry.evaluation.metrics))
    heads = "".join(_head(*head) for head in _heads(metrics))
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    parts = {
        "tiles": "\n".join(_tile(listing, base) for listing in entries),
        "rows": "\n".join(_row(listing, metrics) for listing in entries),
        "cards": "\n".join(_card(listing, base) for listing in entries),
    }
    body = f"""<h1>cphloc zoo</h1>
<p class="lead">Published models for localization and segmentation in medical imaging. Metrics are measured on the
test split, with 95 % bootstrap intervals by patient; green means better than the baseline, with intervals apart.</p>
<form>
<label>Search <input name="words" type="search" placeholder="tumour, CC BY, unet3d"></label>
{_choice("task", (e.entry.task for e in entries))}
{_choice("dims", (f"{e.entry.dims}-D" for e in entries))}
{_choice("modality", (m for e in entries for m in e.entry.modality))}
<span class="lead"><output id="shown">{len(entries)}</output> of {len(entries)} versions</span>
</form>
<div class="tiles">
{parts["tiles"]}
</div>
<h2>Metrics</h2>
<p class="lead">Click a heading to sort, best first; hover over it for its meaning.</p>
<div class="scroll"><table id="entries">
<thead><tr>{heads}</tr></thead>
<tbody>
{parts["rows"]}
</tbody>
</table></div>
<h2>Model cards</h2>
{parts["cards"]}
"""
    return html_page("cphloc zoo", body, script=script)


def _choice(name: str, values: Iterable[str]) -> str:
    options = "".join(f"<option>{escape(value)}</option>" for value in sorted(set(values)))
    title = name.capitalize()
    return f'<label>{title} <select name="{name}"><option value="">any</option>{options}</select></label>'


def _heads(metrics: Iterable[str]) -> Iterator[tuple[str, str, bool, bool]]:
    """Yield title, meaning, whether it is a number, and whether larger is better, of every column."""
    yield from ((title, "", False, False) for title in ("entry", "task", "dims", "modality", "data", "licence"))
    explained = meanings(metrics)
    yield from ((name, explained.get(name, ""), True, not lower_is_better(name)) for name in metrics)
    yield from ((title, "", True, False) for title in ("parameters", "MB", "ms a case"))
    yield (
        "options",
        "what a prediction applies besides the weights, chosen outside the test cases, and its gain",
        False,
        False,
    )


def _head(title: str, meaning: str, number: bool, large_is_best: bool) -> str:
    best = "descending" if large_is_best else "ascending"
    kind = ' class="number"' if number else ""
    button = f'<button type="button" title="{escape(meaning)}">{escape(title)}</button>'
    return f'<th scope="col"{kind} data-best="{best}">{button}</th>'


def _row(listing: Listing, metrics: Iterable[str]) -> str:
    entry = listing.entry
    facts = (entry.task, f"{entry.dims}-D", ", ".join(entry.modality), entry.data.name, entry.data.licence)
    cells = [f'<td data-value="{listing}"><a href="#{_anchor(listing)}">{listing}</a></td>']
    cells += [f"<td>{escape(fact)}</td>" for fact in facts]
    cells += [_metric(listing, name) for name in metrics]
    for value, text in (
        (entry.size.parameters, f"{entry.size.parameters / 1e6:.2f} M"),
        (entry.weights.bytes, f"{entry.weights.bytes / 1e6:.1f}"),
        (entry.speed.ms_per_case, f"{entry.speed.ms_per_case:,.0f}"),
    ):
        cells.append(f'<td class="number" data-value="{value}">{text}</td>')
    options = "<br>".join(map(escape, options_with_gain(entry.options_applied, entry.options)))
    cells.append(f'<td class="small">{options}</td>')
    keys = {"task": entry.task, "dims": f"{entry.dims}-D", "modality": "|".join(entry.modality)}
    filters = "".join(f' data-{key}="{escape(value)}"' for key, value in keys.items())
    return f'<tr data-entry="{_anchor(listing)}"{filters}>{"".join(cells)}</tr>'


def _metric(listing: Listing, name: str) -> str:
    """Show a value with its interval below."""
    found = listing.entry.evaluation.metrics.get(name)
    if found is None or not found.n:
        return '<td class="number" data-value=""></td>'
    value, _, interval = format_metric(found).partition(" ")
    kind = {True: ' class="good"', False: ' class="bad"', None: ""}[beats_baseline(listing.entry, name)]
    text = f'<span{kind}>{value}</span><br><span class="small">{interval}</span>'
    return f'<td class="number" data-value="{found.value}">{text}</td>'


def _tile(listing: Listing, base: str) -> str:
    """Show an entry's picture, task, summary, and its headline metric beside the baseline's."""
    entry = listing.entry
    name, found = entry.headline
    value, _, interval = format_metric(found).partition(" ")
    other = entry.baseline.metrics.get(name)
    kind = {True: "good", False: "bad", None: ""}[beats_baseline(entry, name)]
    shown = sorted(picture_files(entry), key=lambda file: "median" not in file)
    source = f"{base}{listing.name}/{listing.version}/{quote(shown[0])}" if shown else ""
    image = f'<img loading="lazy" alt="a result of {listing}" src="{source}">' if shown else ""
    beside = f"; baseline {format_metric(other)}" if other is not None else ""
    about = f"{entry.task}, {entry.dims}-D, {', '.join(entry.modality)}"
    return (
        f'<a class="tile" data-entry="{_anchor(listing)}" href="#{_anchor(listing)}">{image}<div>'
        f'<strong>{listing}</strong><p class="small">{escape(about)}</p><p>{escape(entry.summary)}</p>'
        f'<p><span class="big {kind}">{value}</span> {escape(name)}</p>'
        f'<p class="small">{interval}{beside}</p></div></a>'
    )


def _card(listing: Listing, base: str) -> str:
    entry = listing.entry
    body = html_of(model_card(entry).partition("\n")[2], f"{base}{listing.name}/{listing.version}/")
    title = f"{listing}: {escape(entry.summary)}"
    hint = escape(verdict(entry).replace("*", ""))
    anchor = _anchor(listing)
    opening = f'<details id="{anchor}" data-entry="{anchor}"><summary title="{hint}">{title}</summary>'
    return f"{opening}\n{body}\n</details>"


def _anchor(listing: Listing) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"entry-{listing}")
