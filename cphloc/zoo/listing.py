"""One version of an entry in a zoo: its facts and files, read or downloaded on first use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cphloc
from cphloc import paths
from cphloc.download import download
from cphloc.errors import CphlocError, DataError, NotFoundError
from cphloc.zoo.index import Row, is_supported, row_of
from cphloc.zoo.inside import file_inside, read_inside
from cphloc.zoo.names import ENTRY_FILE, INDEX_FILE, MAX_ENTRY_BYTES, sha256_of
from cphloc.zoo.pins import check_unchanged
from cphloc.zoo.shared import shared_urls, shared_weights

if TYPE_CHECKING:
    # Listing a zoo must be quicker than the import of pydantic, which reading an entry needs.
    from cphloc.zoo.entry import Entry, File, Weights


@dataclass(frozen=True)
class Listing:
    """One version of an entry in a zoo; everything but name and version is read on first use.

    Args:
        name: the entry's name.
        version: ``1.2.0``.
        place: folder or URL of the version.
        indexed: its row in the zoo's index, or ``None`` where it has none.
        superseded_by: ``name@1.2.0`` of the version that supersedes it by its own statement; empty where the index
            names none.
        rows: the index of a zoo at a URL, whose other versions may hold the same weights.
    """

    name: str
    version: str
    place: Path | str
    indexed: Row | None = field(default=None, repr=False)
    superseded_by: str = ""
    rows: Sequence[Row] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def row(self) -> Row:
        """Facts that listings show and filter by."""
        return self.indexed or self._own_row

    @cached_property
    def _own_row(self) -> Row:
        return row_of(self.content, f"{self.place}/{ENTRY_FILE}")

    @property
    def note(self) -> str:
        """Why the version cannot be used here: it cannot be read, or needs another cphloc; empty where it can."""
        try:
            requires = self.row.requires_cphloc
        except CphlocError as error:
            return f"cannot be read: {str(error).splitlines()[0]}"
        return "" if is_supported(requires) else f"needs cphloc {requires}, this is {cphloc.__version__}"

    @cached_property
    def content(self) -> bytes:
        """The bytes of ``entry.yaml``."""
        if not isinstance(self.place, Path):
            return self._downloaded_entry(self.place).read_bytes()
        if not os.path.lexists(self.place / ENTRY_FILE):
            msg = f"{self.place / ENTRY_FILE}: no such file; an entry is a folder that contains {ENTRY_FILE}"
            raise NotFoundError(msg)
        return read_inside(self.place, ENTRY_FILE, MAX_ENTRY_BYTES + 1)

    def _downloaded_entry(self, url: str) -> Path:
        from cphloc.zoo.entry import File

        if self.indexed is None:
            msg = f"{url}: an entry at a URL is found through the index of its zoo; name it as NAME@VERSION"
            raise NotFoundError(msg)
        expected = File(sha256=self.indexed.sha256, bytes=self.indexed.entry_bytes)
        path = _cached([f"{url}/{ENTRY_FILE}"], expected, f"{self}/{ENTRY_FILE}")
        check_unchanged(str(self), url, expected.sha256)
        return path

    @property
    def sha256(self) -> str:
        """Hash of ``entry.yaml``, which pins every other file."""
        return sha256_of(self.content)

    @cached_property
    def entry(self) -> Entry:
        """The parsed ``entry.yaml``.

        Raises:
            RecipeError: it is not valid.
            DataError: it has another name or version, or differs from the hash or the facts in the index.
        """
        from cphloc.zoo.entry import Entry

        source = f"{self.place}/{ENTRY_FILE}"
        entry = Entry.parse(self.content, source)
        if (entry.name, entry.version) != (self.name, self.version):
            msg = f"{source}: contains {entry}, but its folder is named {self}; download or publish it again"
            raise DataError(msg)
        if self.indexed is not None and self.indexed.sha256 != self.sha256:
            msg = f"{source}: differs from what {INDEX_FILE} pins; versions are immutable: publish a new one"
            raise DataError(msg)
        if self.indexed is not None and (wrong := self.indexed.differing(Row.of(entry, self.content))):
            msg = f"{source}: {INDEX_FILE} states another {wrong[0]} than the entry; write it again: cphloc zoo index"
            raise DataError(msg)
        return entry

    def path(self, file: str) -> Path:
        """Return the local path of one of the entry's files, after downloading it if necessary.

        The hash of a local file is not checked here; `cphloc.zoo.load` does that for what it reads.

        Raises:
            NotFoundError: the entry has no such file.
            DownloadError: it cannot be downloaded.
        """
        pinned = self.entry.files.get(file)
        if pinned is None:
            msg = f"{self} has no file '{file}'; it has {', '.join(sorted(self.entry.files))}"
            raise NotFoundError(msg)
        return self._fetched(file, pinned, [])

    def read(self, file: str) -> bytes:
        """Read one of the entry's texts; raises as `path`, and a `DataError` where it is no short text.

        The hash is not checked here.
        """
        path = self.path(file)
        return read_inside(path.parent, path.name, MAX_ENTRY_BYTES + 1)

    def weights_path(self) -> Path:
        """Return the local path of the weights, downloaded from the zoo or a mirror if necessary; raises as `path`.

        Versions with equal weights may share one file, see `cphloc.zoo.shared`.
        """
        weights: Weights = self.entry.weights
        if isinstance(self.place, Path) and weights.file and not os.path.lexists(self.place / weights.file):
            found = shared_weights(self.place.resolve().parent.parent, weights)
            if found is not None:
                return found
        return self._fetched(weights.file, weights, [*weights.urls, *shared_urls(self.place, weights, self.rows)])

    def _fetched(self, file: str | None, pinned: File, mirrors: Sequence[str]) -> Path:
        allowed = self._allowed(mirrors)
        if file is not None and isinstance(self.place, Path):
            if os.path.lexists(self.place / file) or not allowed:
                return file_inside(self.place, file)
        elif file is not None:
            allowed = [f"{self.place}/{file}", *allowed]
        if not allowed and not cached_path(pinned).is_file():
            msg = f"{self}: its weights are at http addresses only, which are not encrypted; ask for an https address"
            raise DataError(msg)
        return _cached(allowed, pinned, f"{self}/{file or 'weights'}")

    def _allowed(self, mirrors: Sequence[str]) -> list[str]:
        """Leave out ``http`` addresses, which anyone on the way can read, unless the zoo itself was given by one."""
        unencrypted = isinstance(self.place, str) and self.place.lower().startswith("http://")
        return [url for url in mirrors if unencrypted or not url.lower().startswith("http://")]


def cached_path(pinned: File) -> Path:
    """Return where the cache keeps a file: under its hash, so that versions share equal files."""
    return paths.cached("zoo", "files", pinned.sha256)


def _cached(urls: Sequence[str], pinned: File, what: str) -> Path:
    """Return the path of a file in the cache, after downloading it if necessary."""
    return download(urls, cached_path(pinned), what, f"sha256:{pinned.sha256}", pinned.bytes)
