"""List the entries of zoos, and find an entry by name and version.

A zoo is a folder ``<name>/<version>/entry.yaml``, or the URL of such a folder with an index, ``zoo.json``. In a folder
the index only saves time: versions are immutable, so its rows cannot be stale, and versions without a row are read.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cphloc
from cphloc import paths
from cphloc.errors import InputError, NotFoundError, did_you_mean
from cphloc.zoo.index import is_supported, read_index, remote_index, version_folders
from cphloc.zoo.inside import read_inside
from cphloc.zoo.listing import Listing
from cphloc.zoo.names import ENTRY_FILE, INDEX_FILE, MAX_ENTRY_BYTES
from cphloc.zoo.shadowed import local_folder, warn_of_shadowed
from cphloc.zoo.superseded import successors, warn_of_superseded

if TYPE_CHECKING:
    # Listing a zoo must be quicker than the import of pydantic, which reading an entry needs.
    from cphloc.zoo.versions import VersionSpec


class NoSuchVersionError(NotFoundError):
    """An entry exists, but none of its versions is in the range asked for."""


def list_entries(
    task: str | None = None,
    dims: int | None = None,
    modality: str | None = None,
    name: str = "*",
    all_versions: bool = False,
    zoos: Sequence[str] | None = None,
) -> list[Listing]:
    """List published entries by name: the newest version of each, from the first zoo that has the name.

    A version that another one supersedes, such as the same model under a better name, is left out.

    Args:
        task: only this task.
        dims: only 2-D or 3-D ones.
        modality: only those that read this modality.
        name: only names that match this pattern, with ``*`` and ``?``.
        all_versions: list every version, newest first, superseded ones too, instead of the newest only.
        zoos: folders and URLs instead of `paths.zoos`.

    >>> [str(e) for e in list_entries(task="no-such-task", zoos=[])]
    []
    """
    kept: dict[str, list[Listing]] = {}
    for place in paths.zoos() if zoos is None else zoos:
        here: dict[str, list[Listing]] = {}
        for listing in _versions_in(place, lambda held: fnmatch.fnmatch(held, name)):
            here.setdefault(listing.name, []).append(listing)
        kept = here | kept
    listed = []
    for _, versions in sorted(kept.items()):
        by_age = _newest_first(versions) if len(versions) > 1 else versions
        listed += by_age if all_versions else [v for v in by_age if not v.superseded_by][:1]
    return [v for v in listed if _matches(v, task, dims, modality)]


def _newest_first(versions: list[Listing]) -> list[Listing]:
    from packaging.version import Version

    return sorted(versions, key=lambda listing: Version(listing.version), reverse=True)


def find_entry(spec: str | Path, zoos: Sequence[str] | None = None) -> Listing:
    """Find the newest version within ``spec`` that this cphloc supports, in the first zoo that has the name.

    Args:
        spec: ``name``, ``name@1.2.0``, ``name@^1`` and so on (see `cphloc.zoo.versions.parse_spec`), an entry's
            folder (a `Path`, or a text with a slash), or the URL of an entry in a zoo, ``https://host/zoo/name/1.2.0``
            or ``https://host/zoo/name@^1``.
        zoos: folders and URLs instead of `paths.zoos`.

    Raises:
        NotFoundError: no such name (with the nearest one), or no such version (with those that exist).
        InputError: the version needs another cphloc.
    """
    if isinstance(spec, str) and "://" in spec:
        return _of_url(spec)
    if isinstance(spec, Path) or paths.names_a_folder(spec):
        return _of_folder(Path(spec))
    from cphloc.zoo.versions import parse_spec

    asked = parse_spec(spec)
    places = paths.zoos() if zoos is None else list(zoos)
    names: set[str] = set()
    for rank, place in enumerate(places):
        held = {v.version: v for v in _versions_in(place, lambda name: names.add(name) or name == asked.name)}
        if held:
            found = _newest_supported(asked, held, place)
            warn_of_superseded(str(found), found.superseded_by)
            warn_of_shadowed(found.name, found.version, found.row.sha256, place, places[rank + 1 :])
            return found
    hint = did_you_mean(asked.name, names - {asked.name}) or "'cphloc list zoo' lists them all"
    msg = f"no zoo has an entry '{asked.name}' (searched {', '.join(places) or 'none'}); {hint}"
    raise NotFoundError(msg)


def _of_folder(folder: Path) -> Listing:
    from cphloc.zoo.entry import Entry

    folder = folder.expanduser()
    if not os.path.lexists(folder / ENTRY_FILE):
        msg = f"{folder / ENTRY_FILE}: no such file; an entry is a folder that contains {ENTRY_FILE}"
        raise NotFoundError(msg)
    entry = Entry.parse(read_inside(folder, ENTRY_FILE, MAX_ENTRY_BYTES + 1), str(folder / ENTRY_FILE))
    return Listing(entry.name, entry.version, folder)


def _of_url(url: str) -> Listing:
    """Find a version by its URL. The part before the name is the zoo, whose index pins the files."""
    zoo, _, last = url.rstrip("/").rpartition("/")
    if last[:1].isdigit() and last.count(".") > 1 and "@" not in last:
        zoo, _, name = zoo.rpartition("/")
        last = f"{name}@{last}"
    return find_entry(last, [zoo])


def _newest_supported(asked: VersionSpec, held: dict[str, Listing], place: str) -> Listing:
    from packaging.version import Version

    fitting = asked.newest(held)
    if not fitting:
        existing = ", ".join(sorted(held, key=Version, reverse=True))
        msg = f"{asked.name} has no version '{asked.asked}' in {place}; it has {existing}"
        raise NoSuchVersionError(msg)
    for version in fitting:
        if is_supported(held[version].row.requires_cphloc):
            return held[version]
    needs = held[fitting[0]].row.requires_cphloc
    running = cphloc.__version__
    msg = (
        f"{asked.name}@{fitting[0]} needs cphloc {needs} but this is {running}: install that, or choose another version"
    )
    raise InputError(msg)


def _versions_in(place: str, accept: Callable[[str], object]) -> Iterator[Listing]:
    """Yield every version in a zoo whose name ``accept`` approves."""
    folder = local_folder(place)
    if folder is None:
        base = place.rstrip("/")
        index = remote_index(base)
        later = successors(index)
        for row in index:
            if accept(row.name):
                url, here = f"{base}/{row.name}/{row.version}", f"{row.name}@{row.version}"
                yield Listing(row.name, row.version, url, row, later.get(here, ""), index)
        return
    index = read_index(folder / INDEX_FILE) if (folder / INDEX_FILE).is_file() else []
    rows, later = {(row.name, row.version): row for row in index}, successors(index)
    for name, version, path in version_folders(folder, accept):
        yield Listing(name, version, path, rows.get((name, version)), later.get(f"{name}@{version}", ""))


def _matches(listing: Listing, task: str | None, dims: int | None, modality: str | None) -> bool:
    if task is None and dims is None and modality is None:
        return True
    if listing.note.startswith("cannot"):
        return False
    row = listing.row
    return task in (None, row.task) and dims in (None, row.dims) and (modality is None or modality in row.modality)
