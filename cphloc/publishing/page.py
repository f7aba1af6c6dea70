"""Write a zoo as HTML pages without network access: a table to sort and filter, and a page for each version."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.inference.html_page import html_page, rendered
from cphloc.inference.viewer import is_available, viewer_html, viewer_script
from cphloc.publishing.card import beats_baseline, format_metric, model_card, picture_files, verdict
from cphloc.publishing.card_html import html_of
from cphloc.publishing.options import options_with_gain
from cphloc.publishing.paired import paired_gain
from cphloc.publishing.sample_view import sample_scene
from cphloc.publishing.thumbnail import thumbnail
from cphloc.zoo.entries import Listing, list_entries
from cphloc.zoo.inside import file_inside, lies_in

PAGE_FILE = "index.html"
MOST_VIEWED = 30
"""Most 3-D versions whose pages hold a viewer, which takes 5 MB of each page."""
_TEMPLATES = Path(__file__).with_name("templates")
_KINDS = {True: "good", False: "bad", None: ""}


@dataclass(frozen=True)
class Column:
    """A heading of the table: its meaning, and which order is sorted first."""

    title: str
    number: bool = False
    best: str = "ascending"
    meaning: str = ""


@dataclass(frozen=True)
class Cell:
    """A number of the table: what it is sorted by (empty: last), its text, its interval and its class."""

    value: float | str = ""
    text: str = ""
    interval: str = ""
    kind: str = ""


COLUMNS = (
    *(Column(title) for title in ("entry", "task", "metric")),
    Column("value", True, "descending", "headline metric on the test split, with its 95 % interval"),
    Column("baseline", True, "descending", "the same metric of a baseline that ignores the image"),
    Column("difference", True, "descending", "entry minus baseline, paired by case, with its 95 % interval"),
    Column("MB", True, meaning="size of the weights"),
    Column("ms a case", True, meaning="mean time of a prediction; the page of the entry names the device"),
    Column("data"),
)


@dataclass(frozen=True)
class Link:
    """The name of a version, and the address of its page; empty where it is not in the zoo."""

    name: str
    href: str = ""


@dataclass(frozen=True)
class Row:
    """A version in the table."""

    name: str
    href: str
    picture: str
    summary: str
    task: str
    dims: str
    modality: Sequence[str]
    metric: str
    data: str
    licence: str
    older: bool
    superseded_by: Link | None = None
    cells: Sequence[Cell] = field(default_factory=list)


def zoo_page(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the page of a zoo folder, and a page for each version in a folder beside it; return its path.

    Args:
        folder: the zoo; the pages link to its pictures.
        path: where to write; by default ``index.html`` beside the entries. The pages of the versions are in
            ``index-pages``.

    Raises:
        RecipeError: with the mistakes of an entry that cannot be read.
    """
    folder = Path(folder)
    path = folder / PAGE_FILE if path is None else Path(path)
    here = list_entries(all_versions=True, zoos=[str(folder)])
    entries = [e for e in here if lies_in(folder, Path(e.place)) and not e.note]
    below = path.parent / f"{path.stem}-pages"
    newest = {entry.name: entry for entry in reversed(entries)}
    views = is_available() and sum(entry.entry.dims == 3 for entry in entries) <= MOST_VIEWED
    base = _relative(folder, below)
    for entry in entries:
        html = entry_page(entry, base, f"../{quote(path.name)}", _newer(entry, newest[entry.name], entries), views)
        _write(below / _file(entry), html)
    _write(path, page(entries, f"{quote(below.name)}/"))
    return path


def _write(path: Path, html: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _relative(folder: Path, place: Path) -> str:
    """Return the address of a folder as links of a page in ``place`` write it, with a slash at the end."""
    return f"{quote(Path(os.path.relpath(folder.resolve(), place.resolve())).as_posix())}/"


def _file(listing: Listing) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", f"{listing.name}-{listing.version}") + ".html"


def page(entries: Sequence[Listing], below: str) -> str:
    """Return the HTML page with one row per entry.

    Args:
        entries: versions to show, of each entry the newest first.
        below: the folder of their pages as links name it, with a slash at the end.
    """
    names: set[str] = set()
    rows = []
    for listing in entries:
        instead = _superseding(listing, entries, below)
        older = listing.name in names or instead is not None
        rows.append(_row(listing, f"{below}{quote(_file(listing))}", older, instead))
        names.add(listing.name)
    choices = {
        "task": sorted({row.task for row in rows}),
        "dims": sorted({row.dims for row in rows}),
        "modality": sorted({one for row in rows for one in row.modality}),
    }
    body = rendered(_TEMPLATES / "zoo.html", rows=rows, choices=choices, columns=COLUMNS)
    return html_page("cphloc zoo", body, script=Path(__file__).with_name("page.js").read_text(encoding="utf-8"))


def _newer(listing: Listing, newest: Listing, entries: Sequence[Listing]) -> Link | None:
    """Link to the version to use instead: what supersedes it, or the newest of its name; ``None`` for the best."""
    if (instead := _superseding(listing, entries, "")) is not None or newest.version == listing.version:
        return instead
    return Link(str(newest), quote(_file(newest)))


def entry_page(listing: Listing, base: str, back: str, newer: Link | None, views: bool = False) -> str:
    """Return the page of a version: its model card with pictures.

    Args:
        listing: the version.
        base: the zoo's folder as links of the page name it, with a slash at the end.
        back: the page of the zoo as links of the page name it.
        newer: the version to use instead.
        views: whether to show the sample of a 3-D entry in a viewer.
    """
    from markupsafe import Markup

    entry = listing.entry
    scene = sample_scene(listing) if views else None
    body = rendered(
        _TEMPLATES / "entry.html",
        name=str(listing),
        back=back,
        verdict=verdict(entry).replace("*", ""),
        newer=newer,
        superseded=bool(listing.superseded_by),
        card=Markup(html_of(model_card(entry).partition("\n")[2], f"{base}{listing.name}/{listing.version}/")),
        applied=options_with_gain(entry.options_applied, entry.options),
        viewer=Markup("" if scene is None else viewer_html([scene])),
    )
    return html_page(f"{listing}, cphloc zoo", body, script="" if scene is None else viewer_script(), module=True)


def _superseding(listing: Listing, entries: Sequence[Listing], below: str) -> Link | None:
    """Link to the version that supersedes a version; ``None`` where there is none."""
    if not listing.superseded_by:
        return None
    found = next((quote(_file(one)) for one in entries if str(one) == listing.superseded_by), "")
    return Link(listing.superseded_by, found and f"{below}{found}")


def _row(listing: Listing, href: str, older: bool, superseded_by: Link | None) -> Row:
    entry = listing.entry
    return Row(
        name=str(listing),
        href=href,
        picture=_picture(listing),
        summary=entry.summary,
        task=entry.task,
        dims=f"{entry.dims}-D",
        modality=entry.modality,
        metric=entry.headline[0],
        data=entry.data.name,
        licence=entry.data.licence,
        older=older,
        superseded_by=superseded_by,
        cells=[*_measured(listing), *_costs(listing)],
    )


def _measured(listing: Listing) -> Iterator[Cell]:
    """Give the headline metric, that of the baseline, and their paired difference."""
    entry = listing.entry
    name, found = entry.headline
    gain, other = paired_gain(listing, name), entry.baseline.metrics.get(name)
    for metric, kind in ((found, _KINDS[beats_baseline(entry, name)]), (other, ""), (gain, "")):
        if metric is None:
            yield Cell(text="not stored")
        elif metric.value is None:
            yield Cell(text="–")
        else:
            text, _, interval = format_metric(metric).partition(" ")
            yield Cell(metric.value, f"+{text}" if metric is gain and metric.value > 0 else text, interval, kind)


def _costs(listing: Listing) -> Iterable[Cell]:
    entry = listing.entry
    yield Cell(entry.weights.bytes, f"{entry.weights.bytes / 1e6:.1f}")
    yield Cell(entry.speed.ms_per_case, f"{entry.speed.ms_per_case:,.0f}")


def _picture(listing: Listing) -> str:
    """Show the median case of an entry; empty where it has no picture that can be read."""
    shown = sorted(picture_files(listing.entry), key=lambda file: "median" not in file)
    try:
        return thumbnail(file_inside(Path(listing.place), shown[0])) if shown else ""
    except CphlocError:
        return ""
