"""One line about every entry of the zoos, kept in the cache until a folder of them changes.

Reading, checking and sorting the index of 10,000 entries takes ten times as long as asking the file system for the time
at which each folder was changed, which is enough: versions are immutable, and to add, replace or remove one changes the
folder of its name, to write the index changes the file of the index.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import cphloc
from cphloc import paths
from cphloc.config import jsonio
from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.zoo.names import INDEX_FILE
from cphloc.zoo.shadowed import local_folder

_SETTLED_SECONDS = 10.0
"""Age of the last change from which lines are kept: file systems round times, and clocks of servers differ."""


def summaries(all_versions: bool = False) -> list[tuple[str, str]]:
    """List ``name@version`` and a line of text for the newest version of every entry, or for all, by name."""
    zoos = paths.zoos()
    state = _state(zoos)
    if state is None:
        return _lines(all_versions)[0]
    place = hashlib.sha256(json.dumps([zoos, all_versions]).encode()).hexdigest()
    file = paths.cached("zoo", "summaries", f"{place}.json")
    try:
        kept = json.loads(file.read_bytes())
        if kept["state"] == state[0]:
            return [(str(name), str(text)) for name, text in kept["lines"]]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        pass
    lines, all_indexed = _lines(all_versions)
    if all_indexed and time.time() - state[1] > _SETTLED_SECONDS:
        _keep(file, {"state": state[0], "lines": lines})
    return lines


def _lines(all_versions: bool) -> tuple[list[tuple[str, str]], bool]:
    """Return the lines, and whether all of them follow from indexes and the names of folders that are no links."""
    from cphloc.zoo.entries import list_entries

    lines, kept = [], True
    for listing in list_entries(all_versions=all_versions):
        superseded = f"superseded by {listing.superseded_by}. " if listing.superseded_by else ""
        lines.append((str(listing), listing.note or superseded + listing.row.summary))
        kept = kept and listing.indexed is not None and not os.path.islink(listing.place)
    return lines, kept


def _state(zoos: list[str]) -> tuple[str, float] | None:
    """Return a hash of names and times of the indexes and folders of zoos, and the time of the latest change.

    ``None`` if one of them is at a URL, or is being changed.
    """
    digest, latest = hashlib.sha256(cphloc.__version__.encode()), 0.0
    for zoo in zoos:
        if (folder := local_folder(zoo)) is None:
            return None
        try:
            found = _changes(folder)
        except OSError:
            return None
        latest = max([latest, *(seconds for _, seconds, _ in found)])
        digest.update(repr((zoo, os.path.realpath(folder), sorted(found))).encode())
    return digest.hexdigest(), latest


def _changes(zoo: Path) -> list[tuple[str, float, int]]:
    """Name, time of the last change and size of a zoo's folder, of its index, and of the folder of every name."""
    if not zoo.is_dir():
        return []
    places = [("", os.stat(zoo))]
    if (zoo / INDEX_FILE).is_file():
        places.append((INDEX_FILE, os.stat(zoo / INDEX_FILE)))
    with os.scandir(zoo) as names:
        places += [(name.name, os.stat(name.path)) for name in names if name.is_dir()]
    return [(name, max(at.st_mtime, at.st_ctime), at.st_size) for name, at in places]


def _keep(file: Path, facts: dict[str, object]) -> None:
    try:
        with atomic(file) as temporary:
            temporary.write_text(jsonio.dumps(facts), encoding="utf-8")
    except (OSError, CphlocError):  # a full or read-only disk: the next call reads the zoos again
        pass
